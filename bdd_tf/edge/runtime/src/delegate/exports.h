// The functions that the library exports. exports.map lists them for the linker.
#pragma once

#include "tflite/c_abi.h"

#if defined(_WIN32)
#define BDD_EXPORT extern "C" __declspec(dllexport)
#else
#define BDD_EXPORT extern "C" __attribute__((visibility("default")))
#endif

BDD_EXPORT TfLiteDelegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values,
                                                         size_t count, void (*report)(const char*));
BDD_EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate);
BDD_EXPORT const char* bdd_lce_kernels(int i);
