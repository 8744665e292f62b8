// A plugin for qemu-user that counts executed instructions by translated block: qemu-aarch64 -plugin FILE.so,out=COUNTS. It
// writes a line for each block, its address (hexadecimal) and its executed instructions. It declares the part of QEMU's
// plugin interface (version 1) that it needs, because no package contains the header.
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum { kInlineAddU64 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                                  void (*translated)(qemu_plugin_id_t, struct qemu_plugin_tb*));
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb* block);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb* block);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb* block, int operation, void* target,
                                                     uint64_t value);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*ending)(qemu_plugin_id_t, void*), void* data);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

// A block that is translated again, after its memory was freed, gets a new one.
struct Block {
  uint64_t address, executed;
  struct Block* next;
};

static struct Block* blocks;
static char path[4096];

static void Translated(qemu_plugin_id_t id, struct qemu_plugin_tb* translated) {
  (void)id;
  struct Block* block = calloc(1, sizeof *block);
  if (block == NULL) abort();
  block->address = qemu_plugin_tb_vaddr(translated);
  block->next = blocks;
  blocks = block;
  qemu_plugin_register_vcpu_tb_exec_inline(translated, kInlineAddU64, &block->executed,
                                           qemu_plugin_tb_n_insns(translated));
}

static void Ending(qemu_plugin_id_t id, void* data) {
  (void)id;
  (void)data;
  FILE* file = fopen(path, "w");
  if (file == NULL) {
    perror(path);
    return;
  }
  for (const struct Block* block = blocks; block != NULL; block = block->next) {
    if (block->executed > 0) fprintf(file, "%" PRIx64 " %" PRIu64 "\n", block->address, block->executed);
  }
  fclose(file);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void* info, int argc,
                                                               char** argv) {
  (void)info;
  if (argc != 1 || strncmp(argv[0], "out=", 4) != 0 || strlen(argv[0] + 4) >= sizeof path) {
    fprintf(stderr, "usage: -plugin count_instructions.so,out=FILE\n");
    return -1;
  }
  strcpy(path, argv[0] + 4);
  qemu_plugin_register_vcpu_tb_trans_cb(id, Translated);
  qemu_plugin_register_atexit_cb(id, Ending, NULL);
  return 0;
}
