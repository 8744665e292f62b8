// What the interpreter shares with a delegate: its kernels and its threads.
#pragma once

#include "kernels/kernel_set.h"
#include "support/threads.h"
#include "tflite/c_abi.h"

namespace bdd {

// Of a delegate that tflite_plugin_create_delegate made. Valid until it is destroyed.
const KernelSet& KernelsOf(const TfLiteDelegate& delegate);
ThreadPool& ThreadsOf(const TfLiteDelegate& delegate);

}  // namespace bdd
