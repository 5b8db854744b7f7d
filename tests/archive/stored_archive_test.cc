#include "archive/stored_archive.h"

#include <cstdint>

#include "archive/testing.h"
#include "gtest/gtest.h"
#include "zipllm/decompressor.h"
#include "zipllm/zipllm.h"

namespace zipllm::archive {
namespace {

TEST(StoredArchive, HoldsTheBytesWithinItsBound) {
  for (size_t size : {0, 1, 1000, 4 << 20, (4 << 20) + 1, (9 << 20) - 1}) {
    testing::Bytes plain = testing::RandomBytes(size, size);
    testing::Bytes archive;
    std::unique_ptr<Sink> sink = MakeMemorySink(&archive);
    ASSERT_TRUE(WriteStored(plain, *sink).ok());
    EXPECT_LE(archive.size(), StoredBound(size));
    auto decoded = testing::Decompress(archive);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_TRUE(*decoded == plain) << size;
    auto source = MakeMemorySource(archive);
    auto totals = Decompressor().Test(*source);
    EXPECT_TRUE(totals.ok()) << totals.status();
  }
}

TEST(StoredArchive, FitsInTheBoundOfTheCApi) {
  for (int bit = 0; bit < 62; ++bit) {
    uint64_t size = uint64_t{1} << bit;
    EXPECT_LE(StoredBound(size), zipllm_compress_bound(size)) << size;
    EXPECT_LE(StoredBound(size - 1), zipllm_compress_bound(size - 1)) << size;
  }
  EXPECT_EQ(StoredBound(UINT64_MAX), UINT64_MAX);
}

}  // namespace
}  // namespace zipllm::archive
