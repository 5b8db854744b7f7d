#include <gtest/gtest.h>

#include <string>

#include "base/hash.h"
#include "quantizers/inputs.h"

namespace zipllm::quantizers {
namespace {

std::string Hex(const Sha256Digest& digest) {
  std::string hex;
  for (const uint8_t byte : digest) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  return hex;
}

/// By number: what the package libgguf makes of the weights of Plain(), as
/// oracle.py prints it.
struct Golden {
  uint8_t id;
  const char* sha256;
};
constexpr Golden kGolden[] = {
    {16, "6777d97b0de284dfbe34b7f5a32dc15ec26c25378295d679179616bf0b3b30f0"},
    {17, "76e97d927d5482446f0372ff1f9b04bed3e129f11ba29fa94c478aef43fa3a33"},
    {18, "b9a7db9220c069b0ccf66abaf71c378380af8be8e177ee87b86af9d693259e00"},
    {19, "f81bdc7a46e11709ea1eaeb0dbf43870dc95ec2b52338384683d95ffdcbb2edb"},
    {20, "e689fdf4d83e3e44e07ed244d970b2827d2ff8f9bfba86b42c5641740ebb4387"},
    {21, "64a3ac1a8cb4643287ff0b7421145e679c2783d01db466101f17143392d27e6d"},
    {22, "515105fda59005a547023abea7363f543c5193d7b38edd371deb5ed621afb062"},
    {23, "7dda9aa41601b2ca9a89ddf916cd4869b5589641f4d5c644ef68a16b2dbf411b"},
    {24, "2b40914c95f00a7011d788f2648a41de5d0a79050ab03a0d00e1629600598e39"},
    {25, "c44322284e27da009cacc953f43d5d1c5e378a0447e70962dfa0804bd53ef908"},
};

TEST(KQuants, AreThoseOfLibgguf) {
  const Matrix matrix = Plain();
  for (const Golden& golden : kGolden) {
    const Quantizer& quantizer = *FindQuantizer(golden.id);
    for (const kernels::Target target : Targets()) {
      EXPECT_EQ(Hex(Sha256Of(Quantize(quantizer, target, matrix))),
                golden.sha256)
          << quantizer.name << ", target " << static_cast<int>(target);
    }
  }
}

}  // namespace
}  // namespace zipllm::quantizers
