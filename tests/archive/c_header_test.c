// A user of the C API in C99: compiled with -std=c99 -pedantic and linked with
// the shared library, so that the header is C and its functions are exported.
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zipllm/zipllm.h"

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                        \
    }                                                                 \
  } while (0)

static zipllm_error* error;

static void check_ok(zipllm_status status, int line) {
  if (status == ZIPLLM_OK) return;
  fprintf(stderr, "line %d: %s: %s\n", line, zipllm_status_string(status),
          zipllm_error_message(error));
  exit(1);
}
#define OK(call) check_ok((call), __LINE__)

enum { kRows = 300, kColumns = 64, kTensorBytes = kRows * kColumns * 2 };

// A safetensors file of one BF16 tensor "w".
static unsigned char* make_model(size_t* size, size_t* tensor_offset) {
  char header[256];
  int length = snprintf(header, sizeof header,
                        "{\"w\":{\"dtype\":\"BF16\",\"shape\":[%d,%d],"
                        "\"data_offsets\":[0,%d]}}",
                        kRows, kColumns, kTensorBytes);
  unsigned char* model;
  size_t i;
  CHECK(length > 0 && length < 256);
  *tensor_offset = 8 + (size_t)length;
  *size = *tensor_offset + kTensorBytes;
  model = calloc(1, *size);
  CHECK(model != NULL);
  model[0] = (unsigned char)length;
  memcpy(model + 8, header, (size_t)length);
  for (i = 0; i < kTensorBytes / 2; ++i) {
    unsigned char* weight = model + *tensor_offset + 2 * i;
    weight[0] = (unsigned char)(i * 2654435761u >> 13);
    weight[1] = (unsigned char)(0x3B + i % 5);
  }
  return model;
}

static void write_file(const char* path, const void* data, size_t size) {
  FILE* file = fopen(path, "wb");
  CHECK(file != NULL);
  CHECK(fwrite(data, 1, size, file) == size);
  CHECK(fclose(file) == 0);
}

static void check_file(const char* path, const void* data, size_t size) {
  FILE* file = fopen(path, "rb");
  unsigned char* content = malloc(size + 1);
  CHECK(file != NULL && content != NULL);
  CHECK(fread(content, 1, size + 1, file) == size);
  CHECK(memcmp(content, data, size) == 0);
  free(content);
  CHECK(fclose(file) == 0);
}

static void through_memory(const void* model, size_t size) {
  size_t capacity = zipllm_compress_bound(size);
  size_t archive_size = 0;
  size_t plain_size = 0;
  uint64_t claimed = 0;
  void* archive = malloc(capacity);
  void* plain = malloc(size);
  CHECK(archive != NULL && plain != NULL);
  OK(zipllm_compress(archive, capacity, &archive_size, model, size, NULL,
                     &error));
  CHECK(archive_size < size);
  OK(zipllm_decompressed_size(archive, archive_size, NULL, &claimed, &error));
  CHECK(claimed == size);
  OK(zipllm_decompress(plain, size, &plain_size, archive, archive_size, NULL,
                       &error));
  CHECK(plain_size == size);
  CHECK(memcmp(plain, model, size) == 0);
  free(plain);
  free(archive);
}

static void through_files(const char* folder, const unsigned char* model,
                          size_t size, size_t tensor_offset) {
  char in[512], archive_path[512], out[512];
  zipllm_compress_options options;
  zipllm_totals totals;
  zipllm_archive* archive;
  zipllm_segment tensor;
  size_t entry, segment;
  uint64_t length = 0;
  unsigned char* weights;

  snprintf(in, sizeof in, "%s/model.safetensors", folder);
  snprintf(archive_path, sizeof archive_path, "%s/model.zllm", folder);
  snprintf(out, sizeof out, "%s/out.safetensors", folder);
  write_file(in, model, size);

  zipllm_compress_options_init(&options, sizeof options);
  options.level = ZIPLLM_LEVEL_DEFAULT;
  totals.struct_size = sizeof totals;
  OK(zipllm_compress_path_to_file(in, archive_path, 0, &options, &totals,
                                  &error));
  CHECK(totals.files == 1 && totals.plain_bytes == size);
  CHECK(totals.archive_bytes < size);
  OK(zipllm_decompress_file(archive_path, out, NULL, NULL, &error));
  check_file(out, model, size);

  OK(zipllm_archive_open_file(archive_path, NULL, &archive, &error));
  CHECK(zipllm_archive_size(archive) == totals.archive_bytes);
  OK(zipllm_archive_find_tensor(archive, "w", NULL, &entry, &segment, &error));
  tensor.struct_size = sizeof tensor;
  OK(zipllm_archive_get_segment(archive, entry, segment, &tensor, &error));
  CHECK(strcmp(tensor.name, "w") == 0 && tensor.name_length == 1);
  CHECK(strcmp(tensor.dtype_name, "BF16") == 0);
  CHECK(tensor.rank == 2);
  CHECK(tensor.shape[0] == kRows && tensor.shape[1] == kColumns);
  CHECK(tensor.offset == tensor_offset && tensor.length == kTensorBytes);
  OK(zipllm_archive_read_tensor(archive, "w", NULL, NULL, 0, &length, &error));
  CHECK(length == kTensorBytes);
  weights = malloc((size_t)length);
  CHECK(weights != NULL);
  OK(zipllm_archive_read_tensor(archive, "w", NULL, weights, (size_t)length,
                                NULL, &error));
  CHECK(memcmp(weights, model + tensor_offset, (size_t)length) == 0);
  free(weights);

  CHECK(zipllm_archive_read_tensor(archive, "none", NULL, NULL, 0, &length,
                                   &error) == ZIPLLM_ERROR_NOT_FOUND);
  CHECK(zipllm_error_status(error) == ZIPLLM_ERROR_NOT_FOUND);
  CHECK(strstr(zipllm_error_message(error), "none") != NULL);
  zipllm_error_free(error);
  zipllm_archive_close(archive);
  unlink(in);
  unlink(archive_path);
  unlink(out);
}

int main(void) {
  char folder[] = "/tmp/zipllm_c_XXXXXX";
  size_t size, tensor_offset;
  unsigned char* model = make_model(&size, &tensor_offset);
  CHECK(zipllm_abi_version() == ZIPLLM_ABI_VERSION);
  CHECK(mkdtemp(folder) != NULL);
  through_memory(model, size);
  through_files(folder, model, size, tensor_offset);
  CHECK(rmdir(folder) == 0);
  free(model);
  return 0;
}
