// The texts depend on the image's size only through slices and shapes; the tables of the DFT are large constants, which
// ops/forensic_channels_match.cc checks.
#include "ops/forensic_channels_text.h"

#include <cstdio>

#include "ops/graph_text.h"

namespace bdd {
namespace {

// A text that numbers its lines.
class Lines {
 public:
  int operator()(const char* format, ...) __attribute__((format(printf, 2, 3))) {
    va_list arguments;
    va_start(arguments, format);
    AppendFormat(&text_, format, arguments);
    va_end(arguments);
    text_ += '\n';
    return count_++;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  int count_ = 0;
};

// A DFT of length `size` whose input is folded onto itself twice, for `other` rows.
int FoldedTransform(Lines* op, int of, int size, int other) {
  const auto head = [&](int line, int end) {
    return (*op)("STRIDED_SLICE 15 7 0 0 0 %%%d [0,0,0,0] [0,0,0,%d] [1,1,1,1]", line, end);
  };
  const auto tail = [&](int line, int begin) {
    return (*op)("STRIDED_SLICE 7 15 0 0 0 %%%d [0,0,0,%d] [0,0,0,0] [1,1,1,1]", line, begin);
  };
  const auto mirror = [&](int line) { return (*op)("REVERSE_V2 %%%d [3]", line); };
  const auto two = [&](bool minus, int a, int b) { return (*op)("%s 0 %%%d %%%d", minus ? "SUB" : "ADD", a, b); };
  const auto product = [&](int line) { return (*op)("CONV_2D 2 1 1 0 1 1 %%%d # #", line); };
  const auto join = [&](int a, int b) { return (*op)("CONCATENATION 3 0 %%%d %%%d", a, b); };
  const auto column = [&](int line) { return (*op)("RESHAPE %%%d [-1,%d,%d,1]", line, other, size / 2 + 2); };
  const int front = head(of, size / 2 + 1), last = tail(of, size / 2), back = mirror(join(last, head(of, 1)));
  int fronts[2], backs[2], even[2], odd[2];
  for (const int sines : {0, 1}) {
    const int folded = two(sines == 1, front, back);
    fronts[sines] = head(folded, size / 4 + 1);
    backs[sines] = mirror(tail(folded, size / 4));
    even[sines] = product(two(sines == 1, fronts[sines], backs[sines]));
  }
  const int evens = column(join(even[0], even[1]));
  for (const int sines : {0, 1}) odd[sines] = product(two(sines == 0, fronts[sines], backs[sines]));
  const int in_turns = join(evens, column(join(odd[0], odd[1])));
  return (*op)("RESHAPE %%%d [-1,%d,1,%d]", in_turns, other, size + 4);
}

}  // namespace

std::string RgbText(float scale) {
  std::string text = "CAST image\n";
  Append(&text, "MUL 0 %%0 [%.9g]\n", static_cast<double>(scale));
  return text;
}

std::string GreyText() {
  return "CAST image\nCONV_2D 2 1 1 0 1 1 %0 [0.113983154,0.587005615,0.29901123] [0.5]\nFLOOR %1\n";
}

std::string PatternText(int h, int w, float scale) {
  constexpr const char* kSlice = "STRIDED_SLICE 9 9 0 0 0 %%0 [0,%d,%d,0] [0,%d,%d,0] [1,1,1,1]\n";
  std::string t = "PAD grey [0,0,6,6,3,6,0,0]\n";
  Append(&t, kSlice, 6, 9, h + 6, w + 9);
  t += "SUB 0 %1 grey\nADD 0 %2 [1]\nMINIMUM %3 [1]\nRELU %4\n";
  for (const int side : {0, 12}) {
    const int near = side == 0 ? 1 : 11, first = side == 0 ? 6 : 17;
    Append(&t, kSlice, side, 0, h + side, w);
    Append(&t, "SUB 0 %%%d grey\nMUL 0 %%%d [3923]\n", first, first + 1);
    Append(&t, kSlice, near, 0, h + near, w);
    Append(&t, "SUB 0 %%%d grey\nMUL 0 %%%d [16077]\n", first + 3, first + 4);
    Append(&t, "ADD 0 %%%d %%%d\nADD 0 %%%d [1]\n", first + 2, first + 5, first + 6);
    Append(&t, "MINIMUM %%%d [1]\nRELU %%%d\nADD 0 %%%d %%%d\n", first + 7, first + 8, side == 0 ? 5 : 16, first + 9);
  }
  Append(&t, "MUL 0 %%27 [%.9g]\n", static_cast<double>(scale));
  return t;
}

bool IsFoldable(int h, int w) { return h % 4 == 0 && w % 4 == 0; }

std::string SpectrumText(int h, int w, float offset, float scale, bool folded) {
  const int rows = h / 2 + 1, columns = w / 2 + 1;
  Lines op;
  const auto transform = [&](int of, int size, int other) {
    return folded ? FoldedTransform(&op, of, size, other) : op("CONV_2D 2 1 1 0 1 1 %%%d # #", of);
  };
  const int mean = op("ROUND %%%d", op("MEAN 1 grey [1,2]"));
  const int centred = op("SUB 0 grey %%%d", mean);
  const int down = transform(op("TRANSPOSE %%%d [0,2,3,1]", centred), h, w);
  const int both = transform(op("TRANSPOSE %%%d [0,3,2,1]", down), w, folded ? h + 4 : h + 2);
  const auto slice = [&](int begin, int end, int of, const std::string& from, const std::string& to) {
    return op("STRIDED_SLICE %d %d 0 0 0 %%%d %s %s [1,1,1,1]", begin, end, of, from.c_str(), to.c_str());
  };
  const auto two = [&](const char* name, int a, int b) { return op("%s 0 %%%d %%%d", name, a, b); };
  const auto square = [&](int of) { return two("MUL", of, of); };
  const auto four = [](int a, int b, int c, int d) {
    char text[64];
    std::snprintf(text, sizeof text, "[%d,%d,%d,%d]", a, b, c, d);
    return std::string(text);
  };
  // Cosines come first. A folded transform has one frequency more, which is cut off.
  const int across = folded ? 2 * columns + 2 : 2 * columns, wall = folded ? 13 : 15, margin = folded ? 1 : 0;
  const auto left = [&](int of) { return slice(15, 7, of, "[0,0,0,0]", four(0, 0, 0, columns)); };
  const auto right = [&](int of) {
    const int end = folded ? 2 * columns + 1 : 0;
    return slice(7, folded ? 7 : 15, of, four(0, 0, 0, columns + margin), four(0, 0, 0, end));
  };
  const auto logarithm = [&](int squares) {
    const int moved = op("ADD 0 %%%d [%.9g]", op("SQRT %%%d", squares), static_cast<double>(offset));
    const int map = op("LOG %%%d", op("RESHAPE %%%d [-1,%d,%d,1]", moved, rows, columns));
    return op("MUL 0 %%%d [%.9g]", map, static_cast<double>(scale));
  };
  // In the order of a depth-first walk from the result. c: cosines, s: sines; the first letter is the transform down,
  // the second the one across.
  const int c = slice(15, 13, both, "[0,0,0,0]", four(0, rows, 1, across)), c_alone = left(c);
  const int cc = two("ADD", c_alone, op("MUL 0 %%%d #", op("MUL 0 %%%d #", mean)));
  const int end = folded ? 2 * rows + 1 : 0;
  const int s = slice(13, wall, both, four(0, rows + margin, 0, 0), four(0, end, 1, across)), ss = right(s);
  const int real = square(two("SUB", cc, ss));
  const int sc = left(s), cs = right(c);
  const int imaginary = square(two("ADD", sc, cs));
  const int quadrant = logarithm(two("ADD", real, imaginary));
  const int corner = op("REVERSE_V2 %%%d [2]", slice(9, 15, quadrant, "[0,1,1,0]", "[0,0,0,1]"));
  const int other_real = square(two("ADD", cc, ss)), other_imaginary = square(two("SUB", cs, sc));
  const int mirrored = logarithm(two("ADD", other_real, other_imaginary));
  const int beside = slice(13, 11, mirrored, "[0,1,0,0]", "[0,0,-1,1]");
  const int top = op("REVERSE_V2 %%%d [1]", op("CONCATENATION 2 0 %%%d %%%d", corner, beside));
  const int below = op("REVERSE_V2 %%%d [2]", slice(11, 13, mirrored, "[0,0,1,0]", "[0,-1,0,1]"));
  const int last = slice(15, 9, quadrant, "[0,0,0,0]", "[0,-1,-1,1]");
  op("CONCATENATION 1 0 %%%d %%%d", top, op("CONCATENATION 2 0 %%%d %%%d", below, last));
  return op.text();
}

}  // namespace bdd
