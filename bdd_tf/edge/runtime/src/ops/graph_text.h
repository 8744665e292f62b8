// The canonical text of a subgraph: one line per builtin operator with its parameters, small constants and operands, in
// the order of a depth-first walk from the result. Two subgraphs with the same text compute the same function, except
// for large constants, which are listed separately.
//
//   CAST image
//   MUL 0 %0 [0.00392156886]
//
// %0 is the result of the first line, [..] a small constant, # a large one; numbers after a name are its parameters.
#pragma once

#include <cstdarg>
#include <string>
#include <vector>

#include "tflite/c_abi.h"

namespace bdd {

// Looks up the nodes that produce tensors.
class GraphReader {
 public:
  // `nodes` are the indices of the nodes to consider.
  GraphReader(TfLiteContext* context, const std::vector<int>& nodes);

  bool IsTensor(int index) const { return index >= 0 && static_cast<size_t>(index) < context_->tensors_size; }
  bool IsConstant(int index) const;
  const TfLiteTensor& tensor(int index) const { return context_->tensors[index]; }

  // The index of the node that produces a tensor, or -1.
  int Producer(int tensor) const { return IsTensor(tensor) ? producers_[static_cast<size_t>(tensor)] : -1; }
  // The node that produces a tensor; null unless it is this operator with this number of inputs.
  const TfLiteNode* Producer(int tensor, int code, int inputs) const;

  // A node, and (if `code` is not null) its builtin operator; null if the runtime has no such node.
  const TfLiteNode* Node(int index, int* code) const;

  // The data of a constant of floats with this rank and number of elements; null if the tensor is no such constant.
  const void* Floats(int index, int rank, int64_t count) const;

  // The constant scalar that is a node's second of two inputs. Returns false if it is not a finite float.
  bool SecondInput(int node, float* scalar) const;

 private:
  TfLiteContext* context_;
  std::vector<int> producers_;
};

// Elements of constants, which may be unaligned.
float FloatAt(const void* data, int64_t i);
int32_t IntAt(const void* data, int64_t i);

// The tensor of the image, uint8 [N, H, W, 3], from which `rgb` is made by a cast and a multiplication; -1 if it is
// made otherwise.
int ImageOf(const GraphReader& reader, int rgb);

// Whether only these nodes read their results, except for that of node `last`. consumers[t] is the number of times that
// nodes of the model read tensor t.
bool AreReadInsideOnly(const GraphReader& reader, const std::vector<int>& nodes, const std::vector<int>& consumers,
                       int last);

// Writes the text of the subgraph that produces a tensor from the tensor `leaf`, which is written as `leaf_name`.
class GraphText {
 public:
  GraphText(const GraphReader& reader, int leaf, const char* leaf_name)
      : reader_(reader), leaf_(leaf), leaf_name_(leaf_name) {}

  // Returns false if the subgraph contains an unknown operator, or is too large.
  bool Write(int tensor) { return !Visit(tensor).empty(); }

  const std::string& text() const { return text_; }
  const std::vector<int>& nodes() const { return nodes_; }                      // in the order of the lines
  const std::vector<int>& large_constants() const { return large_constants_; }  // tensors, in the order of the #

 private:
  std::string Constant(int tensor);
  std::string Visit(int tensor);

  const GraphReader& reader_;
  int leaf_;
  const char* leaf_name_;
  int depth_ = 0;
  std::string text_;
  std::vector<int> nodes_, large_constants_;
};

// Appends formatted text.
void AppendFormat(std::string* text, const char* format, va_list arguments);
void Append(std::string* text, const char* format, ...) __attribute__((format(printf, 2, 3)));

}  // namespace bdd
