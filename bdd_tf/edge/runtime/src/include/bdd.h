/* Scores images with a detector in a .tflite file: a C99 interface that needs nothing but the C library.
 *
 *   char why[256];
 *   bdd_model* model = NULL;
 *   if (bdd_open_file("photos-bnext-n.tflite", NULL, &model, why, sizeof why) != BDD_OK) puts(why);
 *   bdd_image image = {BDD_RGB, width, height, {pixels}, {0}, 0};
 *   bdd_verdict verdict;
 *   if (bdd_score_image(model, &image, &verdict, why, sizeof why) == BDD_OK) printf("%.3f\n", verdict.probability);
 *   bdd_close(model);
 *
 * An image may have any size: the rule of the file, one resized image or native crops, is applied as Python applies it,
 * to the bit. Models that do not share a bdd_model may run in several threads. There is no global state.
 */
#ifndef BDD_H_
#define BDD_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) && defined(BDD_BUILD)
#define BDD_API __declspec(dllexport)
#elif defined(_WIN32)
#define BDD_API __declspec(dllimport)
#elif defined(__GNUC__)
#define BDD_API __attribute__((visibility("default")))
#else
#define BDD_API
#endif

enum bdd_status {
  BDD_OK = 0,
  BDD_BAD_ARGUMENT = 1, /* a null pointer, or an option out of range */
  BDD_NO_FILE = 2,      /* the file cannot be read */
  BDD_BAD_MODEL = 3,    /* the file is damaged, or needs what this library does not have */
  BDD_NO_MEMORY = 4,
  BDD_FAILED = 5 /* the model failed to run */
};

typedef struct bdd_model bdd_model;

typedef struct bdd_options {
  int threads;         /* 1 to 64; 0: 1. Of a batch, each thread scores some images, with a copy of the weights */
  int batch;           /* images per call of bdd_score, 1 to 1024; 0: 1 */
  const char* kernels; /* a set of instructions, as bdd_lce_kernels names them; NULL: the fastest one */
} bdd_options;

/* Reads a model. `options` may be NULL, and `path` is UTF-8. On success sets *model, which bdd_close frees; else *model
 * is NULL, and `message` (of message_size bytes; may be NULL) holds one sentence. */
BDD_API int bdd_open_file(const char* path, const bdd_options* options, bdd_model** model, char* message,
                          size_t message_size);
/* The same from memory, which is copied. */
BDD_API int bdd_open_memory(const void* data, size_t size, const bdd_options* options, bdd_model** model, char* message,
                            size_t message_size);

/* Changes the number of images per call, 1 to 1024. After an error nothing can be scored until it succeeds. */
BDD_API int bdd_set_batch(bdd_model* model, int batch, char* message, size_t message_size);

/* The number of images per call, and the height and width of one in pixels. BDD_BAD_MODEL if the model is no detector,
 * with uint8 images [batch, height, width, 3] as input and one number for each as output. */
BDD_API int bdd_input_size(const bdd_model* model, int* batch, int* height, int* width);

/* The metadata of the detector: JSON of *size bytes, not terminated; NULL if the file has none. Valid until bdd_close.
 */
BDD_API const char* bdd_metadata(const bdd_model* model, size_t* size);

/* Scores a batch: `rgb` is uint8 [batch, height, width, 3], `probabilities` float [batch], in [0, 1]. Does not
 * allocate. Not for several threads at once on one model. */
BDD_API int bdd_score(bdd_model* model, const uint8_t* rgb, float* probabilities, char* message, size_t message_size);

/* Sizes of input and output of any model with one input and one output of floats: of a whole batch. */
BDD_API int bdd_sizes(const bdd_model* model, size_t* input_bytes, size_t* output_count);

/* Runs any model. `input` holds input_bytes bytes of the input's type; output_count floats are written. Does not
 * allocate. Not for several threads at once on one model. */
BDD_API int bdd_run(bdd_model* model, const void* input, size_t input_bytes, float* output, size_t output_count,
                    char* message, size_t message_size);

enum bdd_format {
  BDD_RGB = 0,
  BDD_RGBA = 1, /* alpha is not premultiplied; composited over white */
  BDD_BGR = 2,
  BDD_BGRA = 3,
  BDD_GREY = 4,
  BDD_NV12 = 5,  /* planes: Y, then U and V in turns; BT.601, full range, chroma of half the width and height */
  BDD_NV21 = 6,  /* planes: Y, then V and U in turns */
  BDD_YUV420 = 7 /* planes: Y, U, V */
};

/* An image in the caller's memory, upright (apply a photograph's EXIF rotation first). */
typedef struct bdd_image {
  int format;               /* enum bdd_format */
  int width, height;        /* 1 to 65535 pixels, and at most 100 million of them */
  const uint8_t* planes[3]; /* interleaved formats use the first */
  size_t strides[3];        /* bytes from one row to the next; 0: rows without gaps */
  int chroma_step;          /* BDD_YUV420: bytes from one chroma sample to the next, 1 or 2; 0: 1 */
} bdd_image;

/* Part of an image, in pixels from its upper left corner. */
typedef struct bdd_box {
  int left, top, width, height;
} bdd_box;

/* Reasons to distrust a score, the first that applies (docs/detection.md). */
enum bdd_deviation {
  BDD_USUAL = 0,
  BDD_FEATURELESS = 1, /* every crop is flat, black or white */
  BDD_SMALLER = 2,     /* than any training image; files that resize */
  BDD_LARGER = 3,      /* than any training image; files that resize */
  BDD_UNUSUAL_CONTRAST = 4,
  BDD_UNUSUAL_DETAIL = 5,
  BDD_PADDED = 6 /* smaller than a crop, and padded by reflection */
};

/* Verdicts. A file whose metadata has a band of scores, "unsure": [low, high], decides FAKE from high upwards and REAL
 * from low downwards; a score between them, and an image with a deviation, is BDD_UNSURE. Other files know two
 * verdicts. */
enum bdd_label { BDD_REAL = 0, BDD_FAKE = 1, BDD_UNSURE = 2 };

typedef struct bdd_verdict {
  double probability; /* that the image is FAKE, in [0, 1] */
  double threshold;   /* of the file; decides if it has no band */
  int fake;           /* 1: the label is BDD_FAKE; 0: it is another */
  int crops;          /* parts of the image that were scored; see bdd_crop */
  int highest;        /* the part with the highest probability */
  int deviation;      /* enum bdd_deviation */
  int label;          /* enum bdd_label */
} bdd_verdict;

/* Prepares memory for images of up to this size. Without it, bdd_score_image allocates when an image needs more than
 * those before it did. */
BDD_API int bdd_reserve(bdd_model* model, int width, int height, char* message, size_t message_size);

/* Scores one image of any size. The file must have a detector's metadata. Not for several threads at once on one
 * model. */
BDD_API int bdd_score_image(bdd_model* model, const bdd_image* image, bdd_verdict* verdict, char* message,
                            size_t message_size);

/* Part `index` of the image that was scored last: its place and its own probability; either pointer may be NULL. */
BDD_API int bdd_crop(const bdd_model* model, int index, bdd_box* box, float* probability);

/* The pixels of that part as the network saw them: RGB, height * width * 3 bytes of the input's size. Valid until the
 * next image. NULL if there is none. */
BDD_API const uint8_t* bdd_crop_pixels(const bdd_model* model, int index);
BDD_API void bdd_close(bdd_model* model);

/* Statements in the metadata of an image file, and other marks of its making (docs/evidence.md): a JSON array of
 * objects with the keys "kind", "says", "where" and "strength"; a thumbnail also has "at" and "bytes", its place in the
 * file. JPEG, PNG, WebP, HEIF, AVIF, GIF and TIFF files; "[]" for others, and for what is damaged. Signatures are not
 * checked. `json` receives the text with a terminating zero, at most BDD_EVIDENCE_BYTES; *needed (may be NULL) is its
 * size. BDD_BAD_ARGUMENT, and nothing is written, if `capacity` is smaller. */
#define BDD_EVIDENCE_BYTES 65536
BDD_API int bdd_evidence(const void* file, size_t size, char* json, size_t capacity, size_t* needed);

/* The version of this interface, "MAJOR.MINOR.PATCH": the source of a program that was made for one major version works
 * with all of it. While MAJOR is 0, structures may grow with MINOR, so that programs must be compiled again. */
BDD_API const char* bdd_version(void);

#ifdef __cplusplus
}
#endif
#endif
