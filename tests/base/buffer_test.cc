#include "base/buffer.h"

#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace zipllm {
namespace {

std::vector<uint8_t> Content(const Buffer& buffer) {
  return {buffer.span().begin(), buffer.span().end()};
}

std::vector<uint8_t> Count(size_t size) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i * 7);
  return bytes;
}

TEST(Buffer, StartsEmpty) {
  Buffer buffer;
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.size(), 0);
  EXPECT_TRUE(buffer.span().empty());
  EXPECT_EQ(buffer.begin(), buffer.end());
  buffer.Append({});
  buffer.Resize(0);
  EXPECT_TRUE(buffer.empty());
}

TEST(Buffer, IsAlignedAtEverySize) {
  for (size_t size = 1; size < 300; ++size) {
    Buffer buffer(size);
    EXPECT_EQ(buffer.size(), size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0);
    buffer.data()[0] = 1;
    buffer.data()[size - 1] = 1;  // ASan would object
  }
}

TEST(Buffer, GrowingKeepsTheContent) {
  const std::vector<uint8_t> bytes = Count(100000);
  Buffer buffer;
  size_t step = 1;
  for (size_t done = 0; done < bytes.size(); done += step) {
    step = std::min(done % 700 + 1, bytes.size() - done);
    buffer.Append({bytes.data() + done, step});
    ASSERT_EQ(buffer.size(), done + step);
  }
  EXPECT_EQ(Content(buffer), bytes);
  buffer.Reserve(bytes.size() * 3);
  EXPECT_EQ(Content(buffer), bytes);
  buffer.Resize(bytes.size() * 2);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), buffer.begin()));
  buffer.Resize(10);
  EXPECT_EQ(Content(buffer), Count(10));
}

TEST(Buffer, ExtendReturnsWhereTheNewBytesStart) {
  Buffer buffer;
  for (size_t i = 0; i < 1000; ++i) {
    uint8_t* place = buffer.Extend(i % 5 + 1);
    ASSERT_EQ(place + i % 5 + 1, buffer.end());
    std::fill(place, buffer.end(), static_cast<uint8_t>(i));
  }
  EXPECT_EQ(buffer.data()[0], 0);
  EXPECT_EQ(buffer.size(), 3000);
  EXPECT_EQ(buffer.data()[2999], 999 % 256);
}

TEST(Buffer, GrowthIsAmortised) {
  Buffer buffer;
  size_t moves = 0;
  const uint8_t* last = nullptr;
  for (size_t i = 0; i < 1 << 20; ++i) {
    buffer.Extend(1);
    moves += buffer.data() != last;
    last = buffer.data();
  }
  EXPECT_LE(moves, 20);
}

TEST(Buffer, ClearKeepsTheMemory) {
  Buffer buffer(1000);
  const uint8_t* data = buffer.data();
  buffer.Clear();
  EXPECT_TRUE(buffer.empty());
  buffer.Resize(1000);
  EXPECT_EQ(buffer.data(), data);
}

TEST(Buffer, MovedFromIsEmptyAndUsable) {
  const std::vector<uint8_t> bytes = Count(100);
  Buffer from;
  from.Append(bytes);
  Buffer to = std::move(from);
  EXPECT_EQ(Content(to), bytes);
  EXPECT_TRUE(from.empty());  // NOLINT(bugprone-use-after-move): defined
  from.Append({bytes.data(), 3});
  EXPECT_EQ(Content(from), Count(3));
  to = std::move(from);
  EXPECT_EQ(Content(to), Count(3));
  EXPECT_TRUE(from.empty());  // NOLINT(bugprone-use-after-move): defined
}

TEST(Buffer, SizesThatNoMemoryHasThrow) {
  // Not constants, or the compiler warns.
  volatile size_t largest = SIZE_MAX;
  Buffer buffer(10);
  for (size_t off : {size_t{0}, size_t{1}, size_t{9}, size_t{10}, size_t{63},
                     size_t{64}, SIZE_MAX / 2}) {
    EXPECT_THROW(buffer.Reserve(largest - off), std::bad_alloc) << off;
    EXPECT_THROW(buffer.Resize(largest - off), std::bad_alloc) << off;
    EXPECT_THROW(buffer.Extend(largest - off), std::bad_alloc) << off;
    EXPECT_EQ(buffer.size(), 10);
  }
}

}  // namespace
}  // namespace zipllm
