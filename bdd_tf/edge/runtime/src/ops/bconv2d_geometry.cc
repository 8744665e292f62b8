// Checks of the options, filter and input of LceBconv2d.
#include "ops/bconv2d_geometry.h"

#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

constexpr int64_t kMaxWindow = 1 << 12;

bool CheckFilterTensor(const Value& filter, Message* why) {
  if (filter.type != kTfLiteInt32 || filter.shape.rank != 4) return why->Set("the filter is not int32 [O, H, W, I]");
  const int32_t* dims = filter.shape.dims;
  for (int i = 0; i < 4; ++i) {
    if (dims[i] < 1) return why->Set("dimension %d of the filter is %d", i, dims[i]);
  }
  if (dims[1] > kMaxWindow || dims[2] > kMaxWindow) {
    return why->Set("a filter of %d x %d is too large", dims[1], dims[2]);
  }
  if (filter.constant == nullptr) return why->Set("the filter is no constant");
  const int64_t bytes = Times(filter.shape.Elements(), 4);
  if (bytes < 0 || filter.bytes < bytes) {
    return why->Set("the filter has %lld bytes where its shape needs %lld", static_cast<long long>(filter.bytes),
                    static_cast<long long>(bytes));
  }
  return true;
}

}  // namespace

bool Bconv2dGeometry::Parse(const uint8_t* options, size_t size, Message* why) {
  int32_t padding = 0;
  if (!ReadOption(options, size, "channels_in", 1, kMaxReductionSize, &channels_in, why) ||
      !ReadOption(options, size, "stride_height", 1, kMaxWindow, &rows.stride, why) ||
      !ReadOption(options, size, "stride_width", 1, kMaxWindow, &columns.stride, why) ||
      !ReadOption(options, size, "dilation_height_factor", 1, kMaxWindow, &rows.dilation, why) ||
      !ReadOption(options, size, "dilation_width_factor", 1, kMaxWindow, &columns.dilation, why) ||
      !ReadOption(options, size, "padding", kLcePaddingSame, kLcePaddingValid, &padding, why) ||
      !ReadOption(options, size, "pad_values", 0, 1, &pad_values, why) ||
      !ReadOption(options, size, "fused_activation_function", kActivationNone, kActivationRelu6, &activation, why)) {
    return false;
  }
  same = padding == kLcePaddingSame;
  return true;
}

bool Bconv2dGeometry::SetFilter(const Value& filter, int channels, Message* why) {
  if (!CheckFilterTensor(filter, why)) return false;
  const int32_t* dims = filter.shape.dims;
  words = PackedWords(channels_in);
  group_words = dims[3];
  if (words % group_words != 0) {
    return why->Set("the filter's %d words of channels do not divide the input's %lld", dims[3],
                    static_cast<long long>(words));
  }
  groups = static_cast<int32_t>(words / group_words);
  if (groups > 1 && (channels_in % groups != 0 || channels_in / groups % 32 != 0)) {
    return why->Set("%d input channels in %d groups: not a multiple of 32 each", channels_in, groups);
  }
  channels_out = dims[0];
  if (channels_out % groups != 0) {
    return why->Set("%d output channels do not divide into %d groups", channels_out, groups);
  }
  group_channels_out = channels_out / groups;
  rows.size = dims[1];
  columns.size = dims[2];
  window_words = Times(window(), group_words);
  const int64_t reduction = Times(window(), channels_in / groups);
  if (reduction < 0 || reduction > kMaxReductionSize || window_words < 0) {
    return why->Set("a window of %d x %d with %d channels is too large", dims[1], dims[2], channels_in / groups);
  }
  reduction_size = static_cast<int32_t>(reduction);
  block_channels = channels;
  group_blocks = (group_channels_out + channels - 1) / channels;
  return true;
}

bool Bconv2dGeometry::SetInput(const Shape& input, Message* why) {
  if (input.dims[3] != words) {
    return why->Set("the input has %d words of channels where %d channels need %lld", input.dims[3], channels_in,
                    static_cast<long long>(words));
  }
  if (!rows.Fit(input.dims[1], same) || !columns.Fit(input.dims[2], same)) {
    return why->Set("a filter of %d x %d does not fit a map of %d x %d", rows.size, columns.size, input.dims[1],
                    input.dims[2]);
  }
  return true;
}

}  // namespace bdd
