// The part of TensorFlow Lite's C interface that an external delegate needs.
//
// The runtimes' Python packages do not include these headers, so this file declares the structs as a binary interface:
// only the order and size of fields matter. They match tflite-runtime 2.14, TensorFlow 2.14 to 2.19 and ai-edge-litert
// 1.x and 2.x. Structs that the runtime passes by pointer end with the last field used; structs that the delegate
// creates (TfLiteDelegate, and TfLiteRegistration, which is passed by value) are complete.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

enum TfLiteStatus : int { kTfLiteOk = 0, kTfLiteError = 1 };

enum TfLiteType : int {
  kTfLiteFloat32 = 1,
  kTfLiteInt32 = 2,
  kTfLiteUInt8 = 3,
  kTfLiteBool = 6,
  kTfLiteInt8 = 9,
  kTfLiteFloat16 = 10
};

enum TfLiteAllocationType : int { kTfLiteMmapRo = 1, kTfLiteDynamic = 4, kTfLitePersistentRo = 5 };

struct TfLiteIntArray {
  int size;
  int data[1];  // `size` of them
};

struct TfLiteQuantizationParams {
  float scale;
  int32_t zero_point;
};

struct TfLiteQuantization {
  int type;
  void* params;
};

struct TfLiteTensor {
  TfLiteType type;
  void* data;
  TfLiteIntArray* dims;
  TfLiteQuantizationParams params;
  TfLiteAllocationType allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  struct TfLiteDelegate* delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  TfLiteQuantization quantization;
  void* sparsity;
  const TfLiteIntArray* dims_signature;
};

struct TfLiteNode {
  TfLiteIntArray* inputs;
  TfLiteIntArray* outputs;
  TfLiteIntArray* intermediates;
  TfLiteIntArray* temporaries;
  void* user_data;
  void* builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  struct TfLiteDelegate* delegate;
  bool might_have_side_effect;
};

struct TfLiteContext;

struct TfLiteRegistration {
  void* (*init)(TfLiteContext* context, const char* buffer, size_t length);
  void (*free)(TfLiteContext* context, void* buffer);
  TfLiteStatus (*prepare)(TfLiteContext* context, TfLiteNode* node);
  TfLiteStatus (*invoke)(TfLiteContext* context, TfLiteNode* node);
  const char* (*profiling_string)(const TfLiteContext* context, const TfLiteNode* node);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  void* async_kernel;
  uint64_t inplace_operator;
};

// Passed by value: on 32-bit ARM the position of the following arguments depends on its exact size.
static_assert(sizeof(TfLiteRegistration) == (sizeof(void*) == 8 ? 88 : 48), "TfLiteRegistration");

// Parameters of builtin operators, up to the last field used. Values of `padding`, `activation`: tflite/builtin_ops.h.
struct TfLiteActivationParams {  // ADD, MUL, SUB
  int activation;
};
struct TfLiteReducerParams {
  uint8_t keep_dims;  // declared as bool in TensorFlow Lite
};
struct TfLiteConcatenationParams {
  int axis;
  int activation;
};
struct TfLiteConvParams {
  int padding, stride_width, stride_height, activation, dilation_width, dilation_height;
};
struct TfLitePoolParams {
  int padding, stride_width, stride_height, filter_width, filter_height, activation;
};

struct TfLiteDelegateParams {
  struct TfLiteDelegate* delegate;
  TfLiteIntArray* nodes_to_replace;
  TfLiteIntArray* input_tensors;
  TfLiteIntArray* output_tensors;
};

struct TfLiteContext {
  size_t tensors_size;
  TfLiteStatus (*GetExecutionPlan)(TfLiteContext* context, TfLiteIntArray** plan);
  TfLiteTensor* tensors;
  void* impl;
  TfLiteStatus (*ResizeTensor)(TfLiteContext* context, TfLiteTensor* tensor, TfLiteIntArray* size);
  void (*ReportError)(TfLiteContext* context, const char* format, ...);
  TfLiteStatus (*AddTensors)(TfLiteContext* context, int count, int* first);
  TfLiteStatus (*GetNodeAndRegistration)(TfLiteContext* context, int index, TfLiteNode** node,
                                         TfLiteRegistration** registration);
  TfLiteStatus (*ReplaceNodeSubsetsWithDelegateKernels)(TfLiteContext* context, TfLiteRegistration registration,
                                                        const TfLiteIntArray* nodes, struct TfLiteDelegate* delegate);
  // The struct continues.
};

struct TfLiteDelegate {
  void* data;
  TfLiteStatus (*Prepare)(TfLiteContext* context, TfLiteDelegate* delegate);
  TfLiteStatus (*CopyFromBufferHandle)(TfLiteContext*, TfLiteDelegate*, int, TfLiteTensor*);
  TfLiteStatus (*CopyToBufferHandle)(TfLiteContext*, TfLiteDelegate*, int, TfLiteTensor*);
  void (*FreeBufferHandle)(TfLiteContext*, TfLiteDelegate*, int*);
  int64_t flags;
  void* opaque_delegate_builder;
};

}  // extern "C"

// Without this flag the runtime rejects custom operators that it cannot resolve before a delegate can claim them.
constexpr int64_t kTfLiteDelegateFlagsAllowDynamicTensors = 1;
