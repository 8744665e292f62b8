// Keeps the C++ library's demangler, 110 kB, out of ours. Its only use is the text that std::terminate prints about an
// exception, and this library is compiled without exceptions. A static library's object is linked for a symbol that
// nothing defines; the definition here comes first.
#include <cstddef>

extern "C" char* __cxa_demangle(const char* name, char* buffer, size_t* size, int* status);

extern "C" char* __cxa_demangle(const char*, char*, size_t*, int* status) {
  constexpr int kInvalidName = -2;
  if (status != nullptr) *status = kInvalidName;
  return nullptr;
}
