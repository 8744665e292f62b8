/* Scores images with a detector in a .tflite file: a C99 interface that needs nothing but the C library.
 *
 *   char why[256];
 *   bdd_model* model = NULL;
 *   if (bdd_open_file("cifake-bnext-n.tflite", NULL, &model, why, sizeof why) != BDD_OK) puts(why);
 *   float probability;
 *   bdd_score(model, rgb, &probability, why, sizeof why);   // rgb: height * width * 3 bytes
 *   bdd_close(model);
 *
 * The network's input is RGB of the size that bdd_input_size returns. Cutting views out of a photograph, or resizing
 * it, is the caller's part; the metadata say which rule the file has (docs/architecture.md). Models that do not share a
 * bdd_model may run in several threads. There is no global state.
 */
#ifndef BDD_H_
#define BDD_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
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
  int threads;         /* 1 to 64; 0: 1 */
  int batch;           /* images per call of bdd_score, 1 to 1024; 0: 1 */
  const char* kernels; /* a set of instructions, as bdd_lce_kernels names them; NULL: the fastest one */
} bdd_options;

/* Reads a model. `options` may be NULL. On success sets *model, which bdd_close frees; else *model is NULL, and
 * `message` (of message_size bytes; may be NULL) holds one sentence. */
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

BDD_API void bdd_close(bdd_model* model);

/* The version of this interface, "MAJOR.MINOR.PATCH": a program that was made for one major version works with all of
 * it. */
BDD_API const char* bdd_version(void);

#ifdef __cplusplus
}
#endif
#endif
