// A .tflite file as tables: tensors, operators and metadata of its only subgraph.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "interpreter/flatbuffer.h"
#include "ops/operator.h"

namespace bdd {

struct ModelFile {
  struct Tensor {
    TfLiteType type = kTfLiteFloat32;
    std::vector<int32_t> dims;
    float scale = 0.0f;
    int32_t zero_point = 0;
    FlatBytes content;  // of a constant; may be unaligned
  };
  struct Operator {
    static constexpr int kMaxParameters = 8;  // DEPTHWISE_CONV_2D has 7
    int32_t code = 0;
    std::string custom_name;
    int32_t parameters[kMaxParameters] = {};  // the struct of a builtin operator's parameters (tflite/c_abi.h)
    FlatBytes options;                        // of a custom operator
    std::vector<int32_t> inputs, outputs;     // tensors; an optional input may be -1
  };
  std::vector<Tensor> tensors;
  std::vector<Operator> operators;  // in the order in which they run
  std::vector<int32_t> inputs, outputs;
  std::vector<std::pair<std::string, FlatBytes>> metadata;
};

// Reads a file, whose bytes must outlive the result. Returns false and the reason if it is damaged, or has something
// that the interpreter does not support: several subgraphs, tensors of other types, buffers outside the FlatBuffer.
bool ReadModelFile(const uint8_t* data, size_t size, ModelFile* model, Message* why);

}  // namespace bdd
