// Constants of the TensorFlow Lite schema: builtin operator codes, padding and fused activations.
#pragma once

namespace bdd {

// BuiltinOperator
constexpr int kTfLiteBuiltinAdd = 0, kTfLiteBuiltinAveragePool2d = 1, kTfLiteBuiltinConcatenation = 2,
              kTfLiteBuiltinConv2d = 3, kTfLiteBuiltinDepthwiseConv2d = 4, kTfLiteBuiltinDequantize = 6,
              kTfLiteBuiltinFloor = 8, kTfLiteBuiltinFullyConnected = 9, kTfLiteBuiltinLogistic = 14,
              kTfLiteBuiltinMaxPool2d = 17, kTfLiteBuiltinMul = 18, kTfLiteBuiltinRelu = 19, kTfLiteBuiltinRelu6 = 21,
              kTfLiteBuiltinReshape = 22, kTfLiteBuiltinSoftmax = 25, kTfLiteBuiltinTanh = 28,
              kTfLiteBuiltinCustom = 32, kTfLiteBuiltinPad = 34, kTfLiteBuiltinTranspose = 39, kTfLiteBuiltinMean = 40,
              kTfLiteBuiltinSub = 41, kTfLiteBuiltinDiv = 42, kTfLiteBuiltinStridedSlice = 45, kTfLiteBuiltinExp = 47,
              kTfLiteBuiltinDelegate = 51, kTfLiteBuiltinCast = 53, kTfLiteBuiltinPrelu = 54,
              kTfLiteBuiltinMaximum = 55, kTfLiteBuiltinMinimum = 57, kTfLiteBuiltinNeg = 59, kTfLiteBuiltinLog = 73,
              kTfLiteBuiltinSqrt = 75, kTfLiteBuiltinRsqrt = 76, kTfLiteBuiltinSquare = 92,
              kTfLiteBuiltinSquaredDifference = 99, kTfLiteBuiltinMirrorPad = 100, kTfLiteBuiltinAbs = 101,
              kTfLiteBuiltinReverseV2 = 105, kTfLiteBuiltinRound = 116, kTfLiteBuiltinHardSwish = 117;

// Padding, as in parameters (TfLitePadding) and as in the options of Lce* operators (schema Padding).
constexpr int kTfLitePaddingSame = 1, kTfLitePaddingValid = 2;
constexpr int kLcePaddingSame = 0, kLcePaddingValid = 1;

// Fused activation
constexpr int kActivationNone = 0, kActivationRelu = 1, kActivationReluN1To1 = 2, kActivationRelu6 = 3;

}  // namespace bdd
