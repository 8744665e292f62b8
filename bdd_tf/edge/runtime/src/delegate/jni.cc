// Native methods of the Java class bddtf.LceDelegate (docs/android.md), which implements org.tensorflow.lite.Delegate.
//
// The first two arguments are JNI's environment and class. They are not used, so jni.h is not needed.
#include <cstdint>
#include <cstdio>

#include "delegate/exports.h"

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
