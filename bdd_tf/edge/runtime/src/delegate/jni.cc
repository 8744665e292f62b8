// Native methods of the Java classes bddtf.LceDelegate, which implements org.tensorflow.lite.Delegate, and
// bddtf.Detector, which needs no other runtime (docs/android.md).
//
// The first two arguments are JNI's environment and class. Two functions of the environment are called by their index
// in its table, which the specification of JNI fixes, so jni.h is not needed.
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "delegate/exports.h"
#include "images/pixels.h"
#include "include/bdd.h"

namespace {

using Environment = const void* const*;  // JNIEnv: points to the table
constexpr int kGetDirectBufferAddress = 230, kGetDirectBufferCapacity = 231;

// The buffer that Detector.java shares: the description of an image, the verdict, and a message.
struct Call {
  int32_t format, width, height, strides[3], chroma_step, unused;
  bdd_verdict verdict;
  char message[256];
};
static_assert(offsetof(Call, verdict) == 32 && offsetof(Call, message) == 72, "Detector.java has these places");

struct Bytes {
  uint8_t* data = nullptr;
  int64_t size = 0;
};

// The memory of a direct ByteBuffer; empty for null and other buffers.
Bytes BytesOf(Environment* environment, void* buffer) {
  if (buffer == nullptr) return {};
  const auto address = reinterpret_cast<void* (*)(Environment*, void*)>(
      reinterpret_cast<uintptr_t>((*environment)[kGetDirectBufferAddress]));
  const auto capacity = reinterpret_cast<int64_t (*)(Environment*, void*)>(
      reinterpret_cast<uintptr_t>((*environment)[kGetDirectBufferCapacity]));
  Bytes bytes;
  bytes.data = static_cast<uint8_t*>(address(environment, buffer));
  bytes.size = bytes.data == nullptr ? 0 : capacity(environment, buffer);
  return bytes;
}

Call* CallOf(Environment* environment, void* buffer) {
  const Bytes bytes = BytesOf(environment, buffer);
  return bytes.size >= static_cast<int64_t>(sizeof(Call)) ? reinterpret_cast<Call*>(bytes.data) : nullptr;
}

int Refuse(Call* call, const char* text) {
  std::snprintf(call->message, sizeof call->message, "%s", text);
  return BDD_BAD_ARGUMENT;
}

}  // namespace

// Returns the handle for Delegate.getNativeHandle(), or 0 if the number of threads is not in 1 to 64.
BDD_EXPORT int64_t Java_bddtf_LceDelegate_create(void*, void*, int32_t threads) {
  char text[16];
  std::snprintf(text, sizeof(text), "%d", static_cast<int>(threads));
  const char* key = "num_threads";
  const char* value = text;
  return static_cast<int64_t>(reinterpret_cast<intptr_t>(tflite_plugin_create_delegate(&key, &value, 1, nullptr)));
}

BDD_EXPORT void Java_bddtf_LceDelegate_destroy(void*, void*, int64_t handle) {
  tflite_plugin_destroy_delegate(reinterpret_cast<TfLiteDelegate*>(static_cast<intptr_t>(handle)));
}

// Returns a handle, or 0 and a message in `call`.
BDD_EXPORT int64_t Java_bddtf_Detector_open(Environment* environment, void*, void* model, int32_t threads, void* call) {
  Call* shared = CallOf(environment, call);
  if (shared == nullptr) return 0;
  const Bytes file = BytesOf(environment, model);
  bdd_options options = {};
  options.threads = threads == 0 ? -1 : threads;
  bdd_model* made = nullptr;
  const int status = bdd_open_memory(file.data, static_cast<size_t>(file.size), &options, &made, shared->message,
                                     sizeof shared->message);
  if (status != BDD_OK) return 0;
  return static_cast<int64_t>(reinterpret_cast<intptr_t>(made));
}

// Returns a status; 0: the verdict is in `call`, else a message.
BDD_EXPORT int32_t Java_bddtf_Detector_score(Environment* environment, void*, int64_t handle, void* call, void* first,
                                             void* second, void* third) {
  Call* shared = CallOf(environment, call);
  if (shared == nullptr) return BDD_BAD_ARGUMENT;
  const Bytes planes[3] = {BytesOf(environment, first), BytesOf(environment, second), BytesOf(environment, third)};
  bdd_image image = {};
  image.format = shared->format;
  image.width = shared->width;
  image.height = shared->height;
  image.chroma_step = shared->chroma_step;
  for (int i = 0; i < 3; ++i) {
    if (shared->strides[i] < 0) return Refuse(shared, "a stride of the image is negative");
    image.planes[i] = planes[i].data;
    image.strides[i] = static_cast<size_t>(shared->strides[i]);
  }
  int64_t needed[3];
  if (const char* problem = bdd::CompleteDescription(&image, needed)) return Refuse(shared, problem);
  for (int i = 0; i < 3; ++i) {
    if (planes[i].size < needed[i]) return Refuse(shared, "a buffer is shorter than the image that it should hold");
  }
  return bdd_score_image(reinterpret_cast<bdd_model*>(static_cast<intptr_t>(handle)), &image, &shared->verdict,
                         shared->message, sizeof shared->message);
}

BDD_EXPORT void Java_bddtf_Detector_close(void*, void*, int64_t handle) {
  bdd_close(reinterpret_cast<bdd_model*>(static_cast<intptr_t>(handle)));
}
