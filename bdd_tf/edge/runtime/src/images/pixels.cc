#include "images/pixels.h"

#include <algorithm>
#include <cstring>

namespace bdd {
namespace {

int BytesPerPixel(int format) {
  switch (format) {
    case BDD_RGB:
    case BDD_BGR: return 3;
    case BDD_RGBA:
    case BDD_BGRA: return 4;
    default: return 1;  // of the first plane
  }
}

// Longer ones only reach beyond all memory; the sizes of planes stay within 64 bits.
constexpr size_t kMaxStride = size_t{1} << 31;

bool IsYuv(int format) { return format >= BDD_NV12; }

uint8_t Clamped(int value) { return static_cast<uint8_t>(std::clamp(value, 0, 255)); }

// A channel composited over white, rounded as Pillow's alpha_composite rounds.
uint8_t OverWhite(int value, int alpha) {
  const int sum = ((value * alpha + 255 * (255 - alpha)) << 7) + (0x80 << 7);
  return static_cast<uint8_t>(((sum >> 8) + sum) >> 15);
}

}  // namespace

const char* SizeProblem(int width, int height) {
  const bool good = width >= 1 && height >= 1 && width <= kMaxSide && height <= kMaxSide &&
                    int64_t{width} * height <= kMaxImagePixels;
  return good ? nullptr : "an image must have 1 to 65535 pixels a side, and at most 100 million";
}

const char* CompleteDescription(bdd_image* image, int64_t (&bytes)[3]) {
  if (image->format < BDD_RGB || image->format > BDD_YUV420) return "the image's format is none of enum bdd_format";
  if (const char* problem = SizeProblem(image->width, image->height)) return problem;
  if (image->chroma_step < 0 || image->chroma_step > 2) return "chroma_step must be 0, 1 or 2";
  if (image->chroma_step == 0) image->chroma_step = 1;
  const bool planar = image->format == BDD_YUV420;
  const int planes = planar ? 3 : IsYuv(image->format) ? 2 : 1;
  const int64_t width = image->width, half = (width + 1) / 2;
  for (int i = 0; i < 3; ++i) {
    bytes[i] = 0;
    if (i >= planes) continue;
    const int64_t samples = i == 0   ? width * BytesPerPixel(image->format)
                            : planar ? half * image->chroma_step
                                     : 2 * half;
    // The last chroma sample of a row needs no neighbour.
    const int64_t row = i > 0 && planar ? samples - image->chroma_step + 1 : samples;
    if (image->strides[i] == 0) image->strides[i] = static_cast<size_t>(samples);
    if (image->strides[i] < static_cast<size_t>(row)) return "a stride of the image is shorter than its row";
    const int64_t rows = i == 0 ? image->height : (int64_t{image->height} + 1) / 2;
    bytes[i] = (rows - 1) * static_cast<int64_t>(std::min(image->strides[i], kMaxStride)) + row;
  }
  return nullptr;
}

bool PixelReader::Set(const bdd_image& image, const char** why) {
  image_ = image;
  int64_t bytes[3];
  *why = CompleteDescription(&image_, bytes);
  for (int i = 0; *why == nullptr && i < 3; ++i) {
    if (bytes[i] > 0 && image_.planes[i] == nullptr) *why = "a plane of the image is NULL";
  }
  return *why == nullptr;
}

void PixelReader::Read(int row, int left, int count, uint8_t* rgb) const {
  if (IsYuv(image_.format)) {
    ReadYuv(row, left, count, rgb);
  } else {
    ReadInterleaved(row, left, count, rgb);
  }
}

void PixelReader::ReadInterleaved(int row, int left, int count, uint8_t* rgb) const {
  const int step = BytesPerPixel(image_.format);
  const uint8_t* from = Row(0, row) + static_cast<size_t>(left) * static_cast<size_t>(step);
  if (image_.format == BDD_RGB) {
    std::memcpy(rgb, from, static_cast<size_t>(count) * 3);
    return;
  }
  if (image_.format == BDD_GREY) {
    for (int x = 0; x < count; ++x, rgb += 3) rgb[0] = rgb[1] = rgb[2] = from[x];
    return;
  }
  const bool swapped = image_.format == BDD_BGR || image_.format == BDD_BGRA;
  const int red = swapped ? 2 : 0;
  for (int x = 0; x < count; ++x, rgb += 3, from += step) {
    const int alpha = step == 4 ? from[3] : 255;
    rgb[0] = from[red];
    rgb[1] = from[1];
    rgb[2] = from[2 - red];
    if (alpha == 255) continue;
    for (int c = 0; c < 3; ++c) rgb[c] = OverWhite(rgb[c], alpha);
  }
}

// ITU-R BT.601 with the full range, as JFIF (ITU-T T.871) and cameras' preview images use it, in 16-bit fixed point.
// Each chroma sample serves its four pixels.
void PixelReader::ReadYuv(int row, int left, int count, uint8_t* rgb) const {
  const uint8_t* luma = Row(0, row) + left;
  const bool planar = image_.format == BDD_YUV420;
  const uint8_t* first = Row(1, row / 2);
  const uint8_t* second = planar ? Row(2, row / 2) : first + 1;
  if (image_.format == BDD_NV21) std::swap(first, second);
  const int step = planar ? image_.chroma_step : 2;
  constexpr int kHalf = 1 << 15;
  for (int x = 0; x < count; ++x, rgb += 3) {
    const int place = (left + x) / 2 * step;
    const int y = luma[x], u = first[place] - 128, v = second[place] - 128;
    rgb[0] = Clamped(y + ((91881 * v + kHalf) >> 16));
    rgb[1] = Clamped(y + ((-22554 * u - 46802 * v + kHalf) >> 16));
    rgb[2] = Clamped(y + ((116130 * u + kHalf) >> 16));
  }
}

}  // namespace bdd
