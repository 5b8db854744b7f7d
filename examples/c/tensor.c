/* Writes one tensor of an archive to standard output, reading only the blocks
 * that hold it. tensor ARCHIVE NAME Build: cc tensor.c -o tensor $(pkg-config
 * --cflags --libs zipllm) */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "zipllm/zipllm.h"

int main(int argc, char** argv) {
  zipllm_archive* archive = NULL;
  zipllm_error* error = NULL;
  void* data = NULL;
  uint64_t length = 0;
  int result = 1;

  if (argc != 3) {
    fprintf(stderr, "usage: %s ARCHIVE NAME\n", argv[0]);
    return 2;
  }
  if (zipllm_archive_open_file(argv[1], NULL, &archive, &error) != ZIPLLM_OK)
    goto done;
  /* First how long it is, then its bytes. */
  if (zipllm_archive_read_tensor(archive, argv[2], NULL, NULL, 0, &length,
                                 &error) != ZIPLLM_OK)
    goto done;
  data = malloc(length + 1); /* a tensor may be empty */
  if (data == NULL) goto done;
  if (zipllm_archive_read_tensor(archive, argv[2], NULL, data, length, NULL,
                                 &error) != ZIPLLM_OK)
    goto done;
  if (fwrite(data, 1, length, stdout) != length || fflush(stdout) != 0) {
    perror("standard output");
    goto done;
  }
  fprintf(stderr, "read %" PRIu64 " of %" PRIu64 " bytes of the archive\n",
          zipllm_archive_bytes_read(archive), zipllm_archive_size(archive));
  result = 0;

done:
  if (error != NULL) fprintf(stderr, "%s\n", zipllm_error_message(error));
  zipllm_error_free(error);
  free(data);
  zipllm_archive_close(archive);
  return result;
}
