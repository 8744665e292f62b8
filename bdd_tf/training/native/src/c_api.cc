// The C interface that bdd_tf/training/native/library.py calls through ctypes.
#include "stem.h"
#include "unit.h"

#define BDD_EXPORT extern "C" __attribute__((visibility("default")))

BDD_EXPORT void* bdd_pool_new(int threads) { return new bdd::ThreadPool(threads); }

BDD_EXPORT void* bdd_unit_new(void* pool, const bdd::UnitSpec* spec) {
  return new bdd::Unit(*spec, static_cast<bdd::ThreadPool*>(pool));
}
BDD_EXPORT void bdd_unit_delete(void* unit) { delete static_cast<bdd::Unit*>(unit); }

BDD_EXPORT void bdd_unit_forward(void* unit, const bdd::ForwardArguments* args) {
  static_cast<bdd::Unit*>(unit)->Forward(*args);
}
BDD_EXPORT void bdd_unit_backward(void* unit, const bdd::BackwardArguments* args) {
  static_cast<bdd::Unit*>(unit)->Backward(*args);
}

BDD_EXPORT void* bdd_stem_new(void* pool, const bdd::StemSpec* spec) {
  return new bdd::Stem(*spec, static_cast<bdd::ThreadPool*>(pool));
}
BDD_EXPORT void bdd_stem_delete(void* stem) { delete static_cast<bdd::Stem*>(stem); }

BDD_EXPORT void bdd_stem_forward(void* stem, const bdd::StemArguments* args) {
  static_cast<bdd::Stem*>(stem)->Forward(*args);
}
BDD_EXPORT void bdd_stem_backward(void* stem, const bdd::StemArguments* args) {
  static_cast<bdd::Stem*>(stem)->Backward(*args);
}
