// What the class bddtf.LceDelegate calls (docs/android.md): the delegate behind Java's org.tensorflow.lite.Delegate.
//
// JNI hands over the environment and the class first. Neither is looked at, so that jni.h is not needed.
#include <cstdint>
#include <cstdio>

#include "exports.h"

// A handle for Delegate.getNativeHandle(); 0 if the number of threads is not 1 to 64.
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
