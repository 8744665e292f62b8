// A minimal TFLite runtime with its own TfLiteContext. It passes models to the delegate that a real runtime would
// reject.
//
//   host CORPUS check                runs all cases on all kernel sets, and compares the outputs
//   host CORPUS fuzz CASES [SEED]    runs mutated cases until CASES of them have reached Prepare
//   host CORPUS fuzz 1 CASE-SEED     reproduces a case (CASE-SEED is written to file descriptor 9 before the case runs)
//
// Every tensor is allocated with its exact size, so that the sanitizers detect accesses past its end.
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "delegate/exports.h"
#include "tflite/builtin_ops.h"

namespace {

using bdd::kTfLiteBuiltinCustom;

// Upper bound of the bytes of a tensor. The host refuses to allocate larger ones, which mutated models may ask for.
constexpr int64_t kLargestTensor = 1 << 19;

struct Tensor {
  int32_t type = 1;
  std::vector<int32_t> dims;
  float scale = 0;
  int32_t zero_point = 0;
  std::vector<uint8_t> data;  // of a constant
};

struct Node {
  std::string name;
  int32_t code = kTfLiteBuiltinCustom;
  std::vector<int32_t> parameters;  // of a builtin operator
  std::vector<uint8_t> options;
  std::vector<int32_t> inputs, outputs;
};

struct Case {
  std::vector<Tensor> tensors;
  std::vector<Node> nodes;
  std::vector<int32_t> inputs, outputs;
  std::vector<uint8_t> fed, expected;
  int32_t tolerance = 0;
};

class Reader {
 public:
  explicit Reader(const std::vector<uint8_t>& bytes) : bytes_(bytes) {}
  template <typename T>
  T Get() {
    T value;
    Need(sizeof value);
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::vector<uint8_t> Blob() {
    const auto size = Get<uint32_t>();
    Need(size);
    at_ += size;
    const auto end = bytes_.begin() + static_cast<std::ptrdiff_t>(at_);
    return std::vector<uint8_t>(end - static_cast<std::ptrdiff_t>(size), end);
  }
  std::vector<int32_t> Numbers() {
    std::vector<int32_t> values(Get<uint32_t>());
    for (int32_t& value : values) value = Get<int32_t>();
    return values;
  }

 private:
  void Need(size_t size) const {
    if (size > bytes_.size() - at_) {
      std::fprintf(stderr, "the corpus is damaged\n");
      std::exit(2);
    }
  }
  const std::vector<uint8_t>& bytes_;
  size_t at_ = 0;
};

std::vector<Case> ReadCorpus(const char* path) {
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) {
    std::fprintf(stderr, "cannot open %s\n", path);
    std::exit(2);
  }
  std::vector<uint8_t> bytes;
  uint8_t part[1 << 16];
  for (size_t n = 0; (n = std::fread(part, 1, sizeof part, file)) > 0;) bytes.insert(bytes.end(), part, part + n);
  std::fclose(file);
  Reader reader(bytes);
  if (reader.Get<uint32_t>() != 0x42444446) {
    std::fprintf(stderr, "not a corpus: %s\n", path);
    std::exit(2);
  }
  std::vector<Case> cases(reader.Get<uint32_t>());
  for (Case& c : cases) {
    c.tensors.resize(reader.Get<uint32_t>());
    for (Tensor& t : c.tensors) {
      t.type = reader.Get<int32_t>();
      t.dims = reader.Numbers();
      t.scale = reader.Get<float>();
      t.zero_point = reader.Get<int32_t>();
      t.data = reader.Blob();
    }
    c.nodes.resize(reader.Get<uint32_t>());
    for (Node& n : c.nodes) {
      const std::vector<uint8_t> name = reader.Blob();
      n.name.assign(name.begin(), name.end());
      n.code = reader.Get<int32_t>();
      n.parameters = reader.Numbers();
      n.options = reader.Blob();
      n.inputs = reader.Numbers();
      n.outputs = reader.Numbers();
    }
    c.inputs = reader.Numbers();
    c.outputs = reader.Numbers();
    c.fed = reader.Blob();
    c.expected = reader.Blob();
    c.tolerance = reader.Get<int32_t>();
  }
  return cases;
}

TfLiteIntArray* MakeArray(const std::vector<int32_t>& values) {
  auto* array = static_cast<TfLiteIntArray*>(std::malloc(sizeof(int) * (values.size() + 1)));
  array->size = static_cast<int>(values.size());
  if (!values.empty()) std::memcpy(array->data, values.data(), sizeof(int) * values.size());
  return array;
}

struct FreeArray {
  void operator()(TfLiteIntArray* array) const { std::free(array); }
};
using Array = std::unique_ptr<TfLiteIntArray, FreeArray>;

int64_t Bytes(const TfLiteTensor& tensor) {
  int64_t bytes = tensor.type == kTfLiteFloat32 || tensor.type == kTfLiteInt32 ? 4
                  : tensor.type == kTfLiteFloat16                              ? 2
                                                                               : 1;
  for (int i = 0; i < tensor.dims->size; ++i) {
    const int64_t dim = tensor.dims->data[i];
    if (dim < 0 || (dim > 0 && bytes > kLargestTensor / dim)) return -1;
    bytes *= dim;
  }
  return bytes;
}

enum class Reached { kRefusedEarly, kPrepare, kInvoke };

// A runtime for one case. It implements all functions that the delegate calls.
class Host {
 public:
  explicit Host(const Case& c) : case_(c) {
    AddTensors();
    AddNodes();
    SetCallbacks();
  }

  ~Host() {
    if (kernel_.free != nullptr && user_data_ != nullptr) kernel_.free(&context_, user_data_);
    for (TfLiteTensor& tensor : tensors_) {
      std::free(tensor.dims);
      std::free(tensor.data);
    }
  }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  Reached Run(TfLiteDelegate* delegate, const std::vector<uint8_t>& fed) {
    if (delegate->Prepare(&context_, delegate) != kTfLiteOk || kernel_.init == nullptr) return Reached::kRefusedEarly;
    if (claimed_ != static_cast<int>(nodes_.size())) {
      error_ = "left to the runtime";
      return Reached::kRefusedEarly;
    }
    Array inputs(MakeArray(case_.inputs)), outputs(MakeArray(case_.outputs));
    TfLiteDelegateParams params = {delegate, plan_.get(), inputs.get(), outputs.get()};
    user_data_ = kernel_.init(&context_, reinterpret_cast<const char*>(&params), sizeof params);
    TfLiteNode node = {};
    node.user_data = user_data_;
    if (kernel_.prepare(&context_, &node) != kTfLiteOk) return Reached::kPrepare;
    for (const int32_t input : case_.inputs) {
      if (input < 0 || static_cast<size_t>(input) >= tensors_.size()) continue;
      TfLiteTensor& tensor = tensors_[static_cast<size_t>(input)];
      if (tensor.data != nullptr) continue;
      const int64_t bytes = Bytes(tensor);
      if (bytes < 0) {
        error_ = "the input is too large for the host";
        return Reached::kPrepare;
      }
      tensor.bytes = static_cast<size_t>(bytes);
      tensor.data = std::malloc(tensor.bytes);
      auto* to = static_cast<uint8_t*>(tensor.data);
      for (size_t i = 0; i < tensor.bytes; ++i)
        to[i] = fed.empty() ? static_cast<uint8_t>(i * 37) : fed[i % fed.size()];
    }
    // Twice, because the state after the first run must not affect the second one.
    for (int i = 0; i < 2; ++i) {
      if (kernel_.invoke(&context_, &node) != kTfLiteOk) return Reached::kPrepare;
    }
    return Reached::kInvoke;
  }

  const std::string& error() const { return error_; }
  const TfLiteTensor& tensor(int32_t i) const { return tensors_[static_cast<size_t>(i)]; }

 private:
  void AddTensors() {
    context_.tensors_size = case_.tensors.size();
    tensors_.resize(case_.tensors.size());
    for (size_t i = 0; i < case_.tensors.size(); ++i) {
      const Tensor& from = case_.tensors[i];
      TfLiteTensor& to = tensors_[i];
      to = TfLiteTensor{};
      to.type = static_cast<TfLiteType>(from.type);
      to.dims = MakeArray(from.dims);
      to.params = {from.scale, from.zero_point};
      if (!from.data.empty()) {
        to.allocation_type = kTfLiteMmapRo;
        to.bytes = from.data.size();
        to.data = std::malloc(to.bytes);
        std::memcpy(to.data, from.data.data(), to.bytes);
      }
    }
    context_.tensors = tensors_.data();
  }

  void SetCallbacks() {
    context_.impl = this;
    context_.GetExecutionPlan = [](TfLiteContext* context, TfLiteIntArray** plan) {
      *plan = Self(context)->plan_.get();
      return kTfLiteOk;
    };
    context_.ResizeTensor = [](TfLiteContext*, TfLiteTensor* tensor, TfLiteIntArray* dims) {
      std::free(tensor->dims);
      tensor->dims = dims;
      std::free(tensor->data);
      tensor->data = nullptr;
      const int64_t bytes = Bytes(*tensor);
      if (bytes < 0) return kTfLiteError;
      tensor->bytes = static_cast<size_t>(bytes);
      tensor->data = std::malloc(tensor->bytes);
      return kTfLiteOk;
    };
    context_.ReportError = &Host::Report;
    context_.GetNodeAndRegistration = [](TfLiteContext* context, int index, TfLiteNode** node,
                                         TfLiteRegistration** registration) {
      Host* self = Self(context);
      if (index < 0 || static_cast<size_t>(index) >= self->nodes_.size()) return kTfLiteError;
      *node = &self->nodes_[static_cast<size_t>(index)];
      *registration = &self->registrations_[static_cast<size_t>(index)];
      return kTfLiteOk;
    };
    context_.ReplaceNodeSubsetsWithDelegateKernels = [](TfLiteContext* context, TfLiteRegistration registration,
                                                        const TfLiteIntArray* nodes, TfLiteDelegate* delegate) {
      Self(context)->kernel_ = registration;
      Self(context)->delegate_ = delegate;
      Self(context)->claimed_ = nodes->size;
      return kTfLiteOk;
    };
  }

  void AddNodes() {
    std::vector<int32_t> plan;
    for (const Node& n : case_.nodes) {
      TfLiteNode node = {};
      arrays_.emplace_back(MakeArray(n.inputs));
      node.inputs = arrays_.back().get();
      arrays_.emplace_back(MakeArray(n.outputs));
      node.outputs = arrays_.back().get();
      // An allocation of its own, so that the sanitizers know its size.
      options_.emplace_back(n.options.empty() ? nullptr : new uint8_t[n.options.size()]);
      if (!n.options.empty()) std::memcpy(options_.back().get(), n.options.data(), n.options.size());
      node.custom_initial_data = options_.back().get();
      node.custom_initial_data_size = static_cast<int>(n.options.size());
      // A runtime parses the parameters itself; they always have their full size.
      parameters_.push_back(n.parameters);
      parameters_.back().resize(8);
      node.builtin_data = n.code == kTfLiteBuiltinCustom ? nullptr : parameters_.back().data();
      plan.push_back(static_cast<int32_t>(nodes_.size()));
      nodes_.push_back(node);
      TfLiteRegistration registration = {};
      registration.builtin_code = n.code;
      registration.custom_name = n.name.c_str();
      registrations_.push_back(registration);
    }
    plan_.reset(MakeArray(plan));
  }

  static void Report(TfLiteContext* context, const char* format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    Self(context)->error_ = text;
  }
  static Host* Self(TfLiteContext* context) { return static_cast<Host*>(context->impl); }

  const Case& case_;
  TfLiteContext context_ = {};
  std::vector<TfLiteTensor> tensors_;
  std::vector<TfLiteNode> nodes_;
  std::vector<TfLiteRegistration> registrations_;
  std::vector<Array> arrays_;
  std::vector<std::unique_ptr<uint8_t[]>> options_;
  std::list<std::vector<int32_t>> parameters_;
  Array plan_;
  TfLiteRegistration kernel_ = {};
  TfLiteDelegate* delegate_ = nullptr;
  int claimed_ = 0;
  void* user_data_ = nullptr;
  std::string error_;
};

using Delegate = std::unique_ptr<TfLiteDelegate, void (*)(TfLiteDelegate*)>;

Delegate MakeDelegate(const char* kernels, const char* threads) {
  const char* const keys[] = {"kernels", "num_threads"};
  const char* const values[] = {kernels, threads};
  return Delegate(tflite_plugin_create_delegate(keys, values, 2, nullptr), tflite_plugin_destroy_delegate);
}

std::vector<std::string> Kernels() {
  std::vector<std::string> names;
  while (const char* name = bdd_lce_kernels(static_cast<int>(names.size()))) names.emplace_back(name);
  return names;
}

bool Equal(const TfLiteTensor& found, const std::vector<uint8_t>& expected, int32_t tolerance) {
  if (found.bytes != expected.size()) return false;
  if (found.type != kTfLiteFloat32) {
    for (size_t i = 0; i < found.bytes; ++i) {
      const int apart = static_cast<const int8_t*>(found.data)[i] - static_cast<int8_t>(expected[i]);
      if (std::abs(apart) > tolerance) return false;
    }
    return true;
  }
  double scale = 1e-9, error = 0;
  for (size_t i = 0; i < expected.size() / 4; ++i) {
    float value = 0;
    std::memcpy(&value, expected.data() + 4 * i, 4);
    scale = std::fmax(scale, std::fabs(value));
    error = std::fmax(error, std::fabs(static_cast<double>(value) - static_cast<const float*>(found.data)[i]));
  }
  return error <= 1e-5 * scale;
}

int Check(const std::vector<Case>& cases) {
  int wrong = 0, ran = 0;
  for (const std::string& name : Kernels()) {
    for (const char* threads : {"1", "2"}) {
      const Delegate delegate = MakeDelegate(name.c_str(), threads);
      for (size_t i = 0; i < cases.size(); ++i) {
        const Case& c = cases[i];
        Host host(c);
        const Reached reached = host.Run(delegate.get(), c.fed);
        ++ran;
        // The host runs the delegate only if it claims all nodes.
        if (reached != Reached::kInvoke ||
            (!c.expected.empty() && !Equal(host.tensor(c.outputs[0]), c.expected, c.tolerance))) {
          std::printf("case %zu, %s: %s\n", i, name.c_str(), host.error().c_str());
          ++wrong;
        }
      }
    }
  }
  std::printf("%d runs of %zu cases, %d wrong\n", ran, cases.size(), wrong);
  return wrong == 0 ? 0 : 1;
}

// --- Mutations -----------------------------------------------------------------------------------------------------

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  int64_t Below(int64_t bound) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(bound)); }
  bool Chance(int in) { return Below(in) == 0; }
  int32_t Number(int32_t from) {
    static constexpr int32_t kSpecial[] = {0, -1, 1, 2, 31, 32, 33, 64, 127, 255, 65535, 1 << 24, INT32_MAX, INT32_MIN};
    switch (Below(4)) {
      case 0: return kSpecial[static_cast<size_t>(Below(sizeof kSpecial / sizeof *kSpecial))];
      case 1: return static_cast<int32_t>(Below(40));
      default: return static_cast<int32_t>(static_cast<uint32_t>(from) + static_cast<uint32_t>(Below(5)) - 2u);
    }
  }

 private:
  std::mt19937_64 engine_;
};

void MutateOnce(Case* c, Random* random) {
  Tensor& tensor = c->tensors[static_cast<size_t>(random->Below(static_cast<int64_t>(c->tensors.size())))];
  Node& node = c->nodes[static_cast<size_t>(random->Below(static_cast<int64_t>(c->nodes.size())))];
  switch (random->Below(14)) {
    case 12:
    case 13:
      if (!node.parameters.empty()) {
        int32_t& value =
            node.parameters[static_cast<size_t>(random->Below(static_cast<int64_t>(node.parameters.size())))];
        value = random->Number(value);
      }
      break;
    case 0:
    case 1:
    case 2:
      if (!tensor.dims.empty()) {
        int32_t& dim = tensor.dims[static_cast<size_t>(random->Below(static_cast<int64_t>(tensor.dims.size())))];
        dim = random->Number(dim);
      }
      break;
    case 3:
      if (random->Chance(2) || tensor.dims.empty()) {
        tensor.dims.push_back(random->Number(1));
      } else {
        tensor.dims.pop_back();
      }
      break;
    case 4: {
      static constexpr int32_t kTypes[] = {1, 2, 3, 6, 9, 0, 4, 77};
      tensor.type = kTypes[random->Below(8)];
      break;
    }
    case 5:
      if (!tensor.data.empty())
        tensor.data.resize(static_cast<size_t>(random->Below(static_cast<int64_t>(tensor.data.size()) + 8)));
      break;
    case 6:
      for (int64_t i = random->Below(8); i >= 0 && !tensor.data.empty(); --i) {
        tensor.data[static_cast<size_t>(random->Below(static_cast<int64_t>(tensor.data.size())))] =
            static_cast<uint8_t>(random->Below(256));
      }
      break;
    case 7: {
      static const float kScales[] = {0.0f, -1.0f, 1e-30f, 1e30f, INFINITY, NAN, 0.5f};
      tensor.scale = kScales[random->Below(7)];
      tensor.zero_point = random->Number(tensor.zero_point);
      break;
    }
    case 8:
    case 9:
      for (int64_t i = random->Below(3); i >= 0 && !node.options.empty(); --i) {
        uint8_t& byte = node.options[static_cast<size_t>(random->Below(static_cast<int64_t>(node.options.size())))];
        byte = random->Chance(2) ? static_cast<uint8_t>(random->Below(6)) : static_cast<uint8_t>(random->Below(256));
      }
      break;
    case 10:
      node.options.resize(static_cast<size_t>(random->Below(static_cast<int64_t>(node.options.size()) + 4)));
      break;
    default: {
      std::vector<int32_t>& indices = random->Chance(2) ? node.inputs : node.outputs;
      if (random->Chance(4)) {
        indices.push_back(random->Number(0));
      } else if (!indices.empty()) {
        if (random->Chance(6)) {
          indices.pop_back();
        } else {
          int32_t& index = indices[static_cast<size_t>(random->Below(static_cast<int64_t>(indices.size())))];
          index = random->Chance(2) ? static_cast<int32_t>(random->Below(static_cast<int64_t>(c->tensors.size())))
                                    : random->Number(index);
        }
      }
    }
  }
}

// The options end with the map's integers, one byte each. Mutating only these keeps the map valid.
void MutateAttribute(Case* c, Random* random) {
  Node& node = c->nodes[static_cast<size_t>(random->Below(static_cast<int64_t>(c->nodes.size())))];
  if (node.options.size() < 24) return;
  const auto back = static_cast<size_t>(random->Below(22)) + 3;
  node.options[node.options.size() - back] = static_cast<uint8_t>(random->Below(random->Chance(3) ? 256 : 8));
}

int Fuzz(const std::vector<Case>& cases, int64_t wanted, uint64_t seed) {
  const std::vector<std::string> kernels = Kernels();
  std::map<std::string, Delegate> delegates;
  for (const std::string& name : kernels) {
    delegates.emplace(name + "1", MakeDelegate(name.c_str(), "1"));
    delegates.emplace(name + "2", MakeDelegate(name.c_str(), "2"));
  }
  std::vector<size_t> all, nets;
  for (size_t i = 0; i < cases.size(); ++i) {
    all.push_back(i);
    for (const Node& n : cases[i].nodes) {
      if (n.code != kTfLiteBuiltinCustom && (nets.empty() || nets.back() != i)) nets.push_back(i);
    }
  }
  if (nets.empty()) nets = all;
  std::map<std::string, int64_t> reasons;
  int64_t tried = 0, refused = 0, prepared = 0, invoked = 0;
  const auto began = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count(); };
  while (prepared + invoked < wanted) {
    const uint64_t number = seed + static_cast<uint64_t>(tried++);
    Random random(number);
    // At least every third case is a net with builtin operators, because these run more code.
    const std::vector<size_t>& from = random.Chance(3) ? nets : all;
    Case c = cases[from[static_cast<size_t>(random.Below(static_cast<int64_t>(from.size())))]];
    for (int64_t i = random.Below(4); i >= 0; --i)
      random.Chance(3) ? MutateAttribute(&c, &random) : MutateOnce(&c, &random);
    // If the case crashes, the number written last reproduces it.
    char line[32];
    const int length = std::snprintf(line, sizeof line, "%020llu\n", static_cast<unsigned long long>(number));
    if (pwrite(9, line, static_cast<size_t>(length), 0) < 0) {
      // Descriptor 9 is not open: the caller does not need the number.
    }
    const std::string& name = kernels[static_cast<size_t>(random.Below(static_cast<int64_t>(kernels.size())))];
    Host host(c);
    const Reached reached = host.Run(delegates.at(name + (random.Chance(16) ? "2" : "1")).get(), c.fed);
    if (reached == Reached::kRefusedEarly) ++refused;
    if (reached == Reached::kPrepare) ++prepared;
    if (reached == Reached::kInvoke) ++invoked;
    if (reached != Reached::kInvoke) {
      if (host.error().empty()) {
        std::printf("case %llu was refused without a reason\n", static_cast<unsigned long long>(number));
        return 1;
      }
      std::string reason;  // without its numbers
      for (const char letter : host.error()) {
        if (letter < '0' || letter > '9') reason += letter;
      }
      ++reasons[reason];
    }
    if (tried % 100000 == 0) {
      std::printf("%lld tried, %lld refused for their options, %lld in prepare, %lld ran; %.0f s\n",
                  static_cast<long long>(tried), static_cast<long long>(refused), static_cast<long long>(prepared),
                  static_cast<long long>(invoked), seconds());
      std::fflush(stdout);
    }
  }
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "%lld tried: %lld refused for their options, %lld refused in prepare, %lld ran; %zu different reasons; "
      "%.0f s, %ld MiB at most\n",
      static_cast<long long>(tried), static_cast<long long>(refused), static_cast<long long>(prepared),
      static_cast<long long>(invoked), reasons.size(), seconds(), usage.ru_maxrss / 1024);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[2], "check") == 0) return Check(ReadCorpus(argv[1]));
  if (argc >= 4 && std::strcmp(argv[2], "fuzz") == 0) {
    return Fuzz(ReadCorpus(argv[1]), std::atoll(argv[3]), argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 1);
  }
  std::fprintf(stderr, "host CORPUS check | host CORPUS fuzz CASES [SEED]\n");
  return 2;
}
