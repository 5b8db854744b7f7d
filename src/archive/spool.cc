#include "archive/spool.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>

namespace zipllm::archive {

absl::Status Spool::Append(ByteSpan data) {
  if (!fd_.ok()) {
    const char* folder = getenv("TMPDIR");
    std::string name =
        StrCat(folder != nullptr && *folder != '\0' ? folder : "/tmp",
               "/zipllm-XXXXXX");
    fd_.Reset(mkostemp(name.data(), O_CLOEXEC));
    if (!fd_.ok())
      return ErrnoStatus(errno, "cannot create a temporary file " + name);
    unlink(name.c_str());
    reader_ = MakeDescriptorSource(fd_.get(), Name());
  }
  RETURN_IF_ERROR(WriteAll(fd_.get(), data, Name()));
  size_ += data.size();
  return absl::OkStatus();
}

absl::StatusOr<size_t> Spool::Read(MutableByteSpan) {
  return Unimplemented("a spool is read at offsets only");
}

absl::StatusOr<size_t> Spool::ReadAt(uint64_t offset, MutableByteSpan out) {
  if (reader_ == nullptr) return 0;
  return reader_->ReadAt(offset, out);
}

}  // namespace zipllm::archive
