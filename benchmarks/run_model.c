/* Runs a model on one image, several times: run_model MODEL.tflite TIMES. The image is noise; the outputs are printed. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "bdd.h"

static int Fail(const char* why) {
  fprintf(stderr, "%s\n", why);
  return 1;
}

int main(int argc, char** argv) {
  char why[512];
  bdd_model* model = NULL;
  size_t input_bytes = 0, outputs = 0;
  if (argc != 3) return Fail("usage: run_model MODEL.tflite TIMES");
  if (bdd_open_file(argv[1], NULL, &model, why, sizeof why) != BDD_OK) return Fail(why);
  if (bdd_sizes(model, &input_bytes, &outputs) != BDD_OK) return Fail("a model with one input and one output is needed");
  uint8_t* image = malloc(input_bytes);
  float* result = malloc(outputs * sizeof *result);
  if (image == NULL || result == NULL) return Fail("no memory");
  uint32_t state = 1;
  for (size_t i = 0; i < input_bytes; ++i) {
    state = state * 1664525u + 1013904223u;
    image[i] = (uint8_t)(state >> 24);
  }
  for (int i = atoi(argv[2]); i > 0; --i) {
    if (bdd_run(model, image, input_bytes, result, outputs, why, sizeof why) != BDD_OK) return Fail(why);
  }
  for (size_t i = 0; i < outputs; ++i) printf("%.9g\n", result[i]);
  free(image);
  free(result);
  bdd_close(model);
  return 0;
}
