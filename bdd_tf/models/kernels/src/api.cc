// What Python calls (bdd_tf/models/kernels/__init__.py).
#include "unit.h"

#define BDD_EXPORT extern "C" __attribute__((visibility("default")))

BDD_EXPORT void* bdd_pool_new(int threads) { return new bdd::ThreadPool(threads); }
BDD_EXPORT int bdd_pool_threads(void* pool) { return static_cast<bdd::ThreadPool*>(pool)->threads(); }
BDD_EXPORT void bdd_pool_delete(void* pool) { delete static_cast<bdd::ThreadPool*>(pool); }

BDD_EXPORT void* bdd_unit_new(void* pool, int batch, int height, int width, int channels, int kernel, int stride,
                              int attention) {
  return new bdd::Unit({batch, height, width, channels, kernel, stride, attention != 0},
                       static_cast<bdd::ThreadPool*>(pool));
}
BDD_EXPORT void bdd_unit_delete(void* unit) { delete static_cast<bdd::Unit*>(unit); }

BDD_EXPORT void bdd_unit_forward(void* unit, const float* x, int64_t x_step, const float* const* parameters, float* out,
                                 int64_t out_step, float* statistics, int training) {
  static_cast<bdd::Unit*>(unit)->Forward(x, x_step, parameters, out, out_step, statistics, training != 0);
}

BDD_EXPORT void bdd_unit_backward(void* unit, const float* x, int64_t x_step, const float* const* parameters,
                                  const float* dout, int64_t dout_step, float* dx, int64_t dx_step, int add,
                                  float* const* gradients, uint64_t seed, int exact) {
  static_cast<bdd::Unit*>(unit)->Backward(x, x_step, parameters, dout, dout_step, dx, dx_step, add != 0, gradients,
                                          seed, exact != 0);
}
