// Constants that a model stores as int8 or float16 and unpacks to floats by a DEQUANTIZE node at run time. The delegate
// reads the packed constant itself, so that the DEQUANTIZE need not run.
#pragma once

#include <cstdint>
#include <vector>

#include "support/memory.h"
#include "tflite/c_abi.h"

namespace bdd {

// packed[t]: the constant that a DEQUANTIZE unpacks to tensor t; -1 for other tensors.
using PackedConstants = std::vector<int>;

PackedConstants FindPackedConstants(TfLiteContext* context, const std::vector<int>& nodes);

// If a node is such a DEQUANTIZE, returns its output and sets *packed (if not null) to the constant; else returns -1.
int UnpackedTensor(TfLiteContext* context, int node, int* packed = nullptr);

// Computes what the DEQUANTIZE would. Returns false if there is no memory.
bool Unpack(const TfLiteTensor& packed, Buffer<float>* floats);

float FloatFromHalf(uint16_t half);

// -1 for impossible shapes.
int64_t ElementCount(const TfLiteTensor& tensor);

}  // namespace bdd
