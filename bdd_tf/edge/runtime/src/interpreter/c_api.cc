#include <cstdio>
#include <new>

#include "detector/detector.h"
#include "include/bdd.h"
#include "interpreter/interpreter.h"

struct bdd_model {
  std::unique_ptr<bdd::Interpreter> interpreter;
  std::unique_ptr<bdd::Detector> detector;  // made when the first image is scored: files without metadata have none
};

namespace {

constexpr int kMaxThreads = 64, kMaxBatch = 1024;
constexpr char kMetadataName[] = "bdd_tf";

int Fail(int status, const char* text, char* message, size_t size) {
  if (message != nullptr && size > 0) std::snprintf(message, size, "%s", text);
  return status;
}

// Whether bdd_score can be called.
bool IsDetector(const bdd::Interpreter& interpreter) {
  return interpreter.TakesImages() && interpreter.output_count() == interpreter.input_shape().dims[0];
}

int Open(bdd::Buffer<uint8_t> content, const bdd_options* options, bdd_model** model, char* message, size_t size) {
  bdd::InterpreterOptions chosen;
  if (options != nullptr) {
    if (options->threads != 0) chosen.threads = options->threads;
    if (options->batch != 0) chosen.batch = options->batch;
    if (options->kernels != nullptr) chosen.kernels = options->kernels;
  }
  if (chosen.threads < 1 || chosen.threads > kMaxThreads || chosen.batch < 1 || chosen.batch > kMaxBatch) {
    return Fail(BDD_BAD_ARGUMENT, "threads must be 1 to 64, and batch 1 to 1024", message, size);
  }
  std::unique_ptr<bdd_model> made(new (std::nothrow) bdd_model);
  if (made == nullptr) return Fail(BDD_NO_MEMORY, "no memory for the model", message, size);
  bdd::Message why;
  made->interpreter = bdd::Interpreter::Make(std::move(content), chosen, &why);
  if (made->interpreter == nullptr) return Fail(BDD_BAD_MODEL, why.text(), message, size);
  *model = made.release();
  return BDD_OK;
}

}  // namespace

int bdd_open_memory(const void* data, size_t size, const bdd_options* options, bdd_model** model, char* message,
                    size_t message_size) {
  if (data == nullptr || model == nullptr) {
    return Fail(BDD_BAD_ARGUMENT, "data and model must not be NULL", message, message_size);
  }
  *model = nullptr;
  if (size == 0) return Fail(BDD_BAD_MODEL, "the file is empty", message, message_size);
  bdd::Buffer<uint8_t> content;
  if (size > static_cast<size_t>(bdd::kMaxBytes) || !content.Reset(static_cast<int64_t>(size))) {
    return Fail(BDD_NO_MEMORY, "no memory for the file", message, message_size);
  }
  std::memcpy(content.data(), data, size);
  return Open(std::move(content), options, model, message, message_size);
}

int bdd_open_file(const char* path, const bdd_options* options, bdd_model** model, char* message, size_t message_size) {
  if (path == nullptr || model == nullptr) {
    return Fail(BDD_BAD_ARGUMENT, "path and model must not be NULL", message, message_size);
  }
  *model = nullptr;
  std::FILE* file = std::fopen(path, "rb");
  int64_t size = -1;
  if (file != nullptr && std::fseek(file, 0, SEEK_END) == 0) size = std::ftell(file);
  bdd::Buffer<uint8_t> content;
  bool good = size > 0 && size <= bdd::kMaxBytes && std::fseek(file, 0, SEEK_SET) == 0 && content.Reset(size);
  good = good && std::fread(content.data(), 1, static_cast<size_t>(size), file) == static_cast<size_t>(size);
  if (file != nullptr) std::fclose(file);
  if (!good) {
    char text[256];
    std::snprintf(text, sizeof text, "%.200s cannot be read, or is empty", path);
    return Fail(BDD_NO_FILE, text, message, message_size);
  }
  return Open(std::move(content), options, model, message, message_size);
}

int bdd_set_batch(bdd_model* model, int batch, char* message, size_t message_size) {
  if (model == nullptr || batch < 1 || batch > kMaxBatch) {
    return Fail(BDD_BAD_ARGUMENT, "model must not be NULL, and batch must be 1 to 1024", message, message_size);
  }
  bdd::Message why;
  if (!model->interpreter->SetBatch(batch, &why)) return Fail(BDD_FAILED, why.text(), message, message_size);
  return BDD_OK;
}

int bdd_sizes(const bdd_model* model, size_t* input_bytes, size_t* output_count) {
  if (model == nullptr) return BDD_BAD_ARGUMENT;
  if (input_bytes != nullptr) *input_bytes = static_cast<size_t>(model->interpreter->input_bytes());
  if (output_count != nullptr) *output_count = static_cast<size_t>(model->interpreter->output_count());
  return BDD_OK;
}

int bdd_run(bdd_model* model, const void* input, size_t input_bytes, float* output, size_t output_count, char* message,
            size_t message_size) {
  if (model == nullptr || input == nullptr || output == nullptr) {
    return Fail(BDD_BAD_ARGUMENT, "model, input and output must not be NULL", message, message_size);
  }
  if (input_bytes != static_cast<size_t>(model->interpreter->input_bytes()) ||
      output_count != static_cast<size_t>(model->interpreter->output_count())) {
    return Fail(BDD_BAD_ARGUMENT, "input_bytes and output_count must be those of bdd_sizes", message, message_size);
  }
  bdd::Message why;
  if (!model->interpreter->Run(input, output, &why)) return Fail(BDD_FAILED, why.text(), message, message_size);
  return BDD_OK;
}

int bdd_input_size(const bdd_model* model, int* batch, int* height, int* width) {
  if (model == nullptr) return BDD_BAD_ARGUMENT;
  if (!IsDetector(*model->interpreter)) return BDD_BAD_MODEL;
  const bdd::Shape& shape = model->interpreter->input_shape();
  if (batch != nullptr) *batch = shape.dims[0];
  if (height != nullptr) *height = shape.dims[1];
  if (width != nullptr) *width = shape.dims[2];
  return BDD_OK;
}

const char* bdd_metadata(const bdd_model* model, size_t* size) {
  if (model == nullptr) return nullptr;
  for (const auto& entry : model->interpreter->file().metadata) {
    if (entry.first != kMetadataName || entry.second.data == nullptr) continue;
    if (size != nullptr) *size = entry.second.size;
    return reinterpret_cast<const char*>(entry.second.data);
  }
  return nullptr;
}

int bdd_score(bdd_model* model, const uint8_t* rgb, float* probabilities, char* message, size_t message_size) {
  if (model == nullptr || rgb == nullptr || probabilities == nullptr) {
    return Fail(BDD_BAD_ARGUMENT, "model, rgb and probabilities must not be NULL", message, message_size);
  }
  if (!IsDetector(*model->interpreter)) {
    return Fail(BDD_BAD_MODEL, "not a detector: an image in, one number out; bdd_run runs other models", message,
                message_size);
  }
  bdd::Message why;
  if (!model->interpreter->Run(rgb, probabilities, &why)) return Fail(BDD_FAILED, why.text(), message, message_size);
  return BDD_OK;
}

namespace {

// The detector of a model; null and the reason if its file is none.
bdd::Detector* DetectorOf(bdd_model* model, bdd::Message* why) {
  if (model->detector != nullptr) return model->detector.get();
  if (!IsDetector(*model->interpreter)) {
    why->Set("the file is no detector: an image in, one number out");
    return nullptr;
  }
  std::unique_ptr<bdd::Detector> made(new (std::nothrow) bdd::Detector);
  size_t size = 0;
  const char* metadata = bdd_metadata(model, &size);
  if (made == nullptr) {
    why->Set("no memory for the detector");
    return nullptr;
  }
  if (!made->Load(metadata, size, *model->interpreter, why)) return nullptr;
  model->detector = std::move(made);
  return model->detector.get();
}

}  // namespace

int bdd_reserve(bdd_model* model, int width, int height, char* message, size_t message_size) {
  if (model == nullptr) return Fail(BDD_BAD_ARGUMENT, "model must not be NULL", message, message_size);
  bdd::Message why;
  bdd::Detector* detector = DetectorOf(model, &why);
  if (detector == nullptr) return Fail(BDD_BAD_MODEL, why.text(), message, message_size);
  if (!detector->Reserve(width, height, &why)) return Fail(BDD_BAD_ARGUMENT, why.text(), message, message_size);
  return BDD_OK;
}

int bdd_score_image(bdd_model* model, const bdd_image* image, bdd_verdict* verdict, char* message,
                    size_t message_size) {
  if (model == nullptr || image == nullptr || verdict == nullptr) {
    return Fail(BDD_BAD_ARGUMENT, "model, image and verdict must not be NULL", message, message_size);
  }
  bdd::Message why;
  bdd::Detector* detector = DetectorOf(model, &why);
  if (detector == nullptr) return Fail(BDD_BAD_MODEL, why.text(), message, message_size);
  bdd::PixelReader pixels;
  const char* problem = nullptr;
  if (!pixels.Set(*image, &problem)) return Fail(BDD_BAD_ARGUMENT, problem, message, message_size);
  if (!detector->Score(pixels, model->interpreter.get(), verdict, &why)) {
    return Fail(BDD_FAILED, why.text(), message, message_size);
  }
  return BDD_OK;
}

int bdd_crop(const bdd_model* model, int index, bdd_box* box, float* probability) {
  if (model == nullptr || model->detector == nullptr || index < 0 || index >= model->detector->count()) {
    return BDD_BAD_ARGUMENT;
  }
  if (box != nullptr) *box = model->detector->box(index);
  if (probability != nullptr) *probability = model->detector->score(index);
  return BDD_OK;
}

const uint8_t* bdd_crop_pixels(const bdd_model* model, int index) {
  if (model == nullptr || model->detector == nullptr || index < 0 || index >= model->detector->count()) return nullptr;
  return model->detector->pixels(index);
}

void bdd_close(bdd_model* model) { delete model; }

const char* bdd_version(void) { return "0.3.0"; }
