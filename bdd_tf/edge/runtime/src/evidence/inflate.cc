#include "evidence/inflate.h"

namespace bdd {
namespace {

constexpr int kMaxBits = 15;

// Bits of a stream, lowest first. Beyond its end come zeros, and `past` tells it.
class Bits {
 public:
  explicit Bits(ByteView bytes) : bytes_(bytes) {}

  uint32_t Take(int count) {
    uint32_t value = 0;
    for (int i = 0; i < count; ++i) value |= TakeOne() << i;
    return value;
  }
  uint32_t TakeOne() {
    if (at_ / 8 >= bytes_.size) past_ = true;
    const uint32_t bit = (uint32_t{bytes_[at_ / 8]} >> (at_ % 8)) & 1;
    ++at_;
    return bit;
  }
  // The bytes from the next whole one on.
  ByteView Rest() { return bytes_.From((at_ + 7) / 8); }
  void SkipBytes(size_t count) { at_ = ((at_ + 7) / 8 + count) * 8; }
  bool past() const { return past_; }

 private:
  ByteView bytes_;
  size_t at_ = 0;
  bool past_ = false;
};

// A canonical prefix code: symbols in the order of their codes, and the number of codes of each length.
struct Code {
  uint16_t counts[kMaxBits + 1] = {};
  uint16_t symbols[288] = {};

  // Returns false if more codes are given than fit.
  bool Set(const uint8_t* lengths, int count) {
    for (uint16_t& number : counts) number = 0;
    for (int i = 0; i < count; ++i) ++counts[lengths[i]];
    counts[0] = 0;
    int room = 1;
    uint16_t first[kMaxBits + 2] = {};
    for (int bits = 1; bits <= kMaxBits; ++bits) {
      room = 2 * room - counts[bits];
      if (room < 0) return false;
      first[bits + 1] = static_cast<uint16_t>(first[bits] + counts[bits]);
    }
    for (int i = 0; i < count; ++i) {
      if (lengths[i] != 0) symbols[first[lengths[i]]++] = static_cast<uint16_t>(i);
    }
    return true;
  }

  // The next symbol; -1 if the bits are no code.
  int Take(Bits* bits) const {
    int code = 0, first = 0, index = 0;
    for (int length = 1; length <= kMaxBits; ++length) {
      code |= static_cast<int>(bits->TakeOne());
      if (code - first < counts[length]) return symbols[index + code - first];
      index += counts[length];
      first = (first + counts[length]) * 2;
      code *= 2;
    }
    return -1;
  }
};

class Inflater {
 public:
  Inflater(ByteView deflated, size_t limit, std::string* out)
      : bits_(deflated), out_(out), begin_(out->size()), end_(out->size() + limit) {}

  bool Run() {
    for (bool last = false; !last && out_->size() < end_;) {
      last = bits_.TakeOne() != 0;
      const uint32_t type = bits_.Take(2);
      const bool good = type == 0 ? Stored() : type == 1 ? Fixed() : type == 2 ? Dynamic() : false;
      if (!good || bits_.past()) return false;
    }
    return true;
  }

 private:
  bool Stored() {
    const ByteView rest = bits_.Rest();
    const size_t size = rest.U16Little(0);
    if (!rest.Has(4, size) || (size ^ 0xffff) != rest.U16Little(2)) return false;
    const ByteView part = rest.Part(4, size).First(end_ - out_->size());
    out_->append(reinterpret_cast<const char*>(part.data), part.size);
    bits_.SkipBytes(4 + size);
    return true;
  }

  bool Fixed() {
    uint8_t lengths[288];
    for (int i = 0; i < 288; ++i) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    letters_.Set(lengths, 288);
    for (int i = 0; i < 30; ++i) lengths[i] = 5;
    distances_.Set(lengths, 30);
    return Symbols();
  }

  bool Dynamic() {
    static constexpr uint8_t kOrder[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    const int letters = static_cast<int>(bits_.Take(5)) + 257, distances = static_cast<int>(bits_.Take(5)) + 1;
    const int given = static_cast<int>(bits_.Take(4)) + 4;
    if (letters > 286 || distances > 30) return false;
    uint8_t lengths[286 + 30] = {};
    for (int i = 0; i < given; ++i) lengths[kOrder[i]] = static_cast<uint8_t>(bits_.Take(3));
    Code code;
    if (!code.Set(lengths, 19)) return false;
    uint8_t read[286 + 30] = {};
    for (int i = 0; i < letters + distances;) {
      const int symbol = code.Take(&bits_);
      if (symbol < 0 || bits_.past()) return false;
      if (symbol < 16) {
        read[i++] = static_cast<uint8_t>(symbol);
        continue;
      }
      if (symbol == 16 && i == 0) return false;
      const uint8_t value = symbol == 16 ? read[i - 1] : uint8_t{0};
      const uint32_t times = symbol == 16 ? 3 + bits_.Take(2) : symbol == 17 ? 3 + bits_.Take(3) : 11 + bits_.Take(7);
      for (uint32_t k = 0; k < times; ++k) {
        if (i == letters + distances) return false;
        read[i++] = value;
      }
    }
    return letters_.Set(read, letters) && distances_.Set(read + letters, distances) && Symbols();
  }

  bool Symbols() {
    static constexpr uint16_t kLength[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                           31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static constexpr uint8_t kLengthBits[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                              2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static constexpr uint16_t kDistance[] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                             33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                             1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    while (out_->size() < end_) {
      const int symbol = letters_.Take(&bits_);
      if (symbol < 0 || symbol > 285 || bits_.past()) return false;
      if (symbol == 256) return true;
      if (symbol < 256) {
        *out_ += static_cast<char>(symbol);
        continue;
      }
      const uint32_t length = kLength[symbol - 257] + bits_.Take(kLengthBits[symbol - 257]);
      const int far = distances_.Take(&bits_);
      if (far < 0 || far > 29) return false;
      const size_t distance = kDistance[far] + bits_.Take(far < 4 ? 0 : far / 2 - 1);
      if (distance > out_->size() - begin_) return false;
      for (uint32_t i = 0; i < length && out_->size() < end_; ++i) *out_ += (*out_)[out_->size() - distance];
    }
    return true;
  }

  Bits bits_;
  std::string* const out_;
  const size_t begin_, end_;
  Code letters_, distances_;
};

}  // namespace

bool Inflate(ByteView zlib, size_t limit, std::string* out) {
  // Method deflate, a header that 31 divides, no preset dictionary.
  if ((zlib[0] & 15) != 8 || zlib.U16(0) % 31 != 0 || (zlib[1] & 32) != 0) return false;
  return Inflater(zlib.From(2), limit, out).Run();
}

}  // namespace bdd
