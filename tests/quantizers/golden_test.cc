#include <gtest/gtest.h>

#include "quantizers/inputs.h"

namespace zipllm::quantizers {
namespace {

/// By number: what the package libgguf makes of the weights of Plain(), as
/// oracle.py prints it.
struct Golden {
  uint8_t id;
  const char* sha256;
};
constexpr Golden kGolden[] = {
    {1, "0d532d60ed6ba8cad8c68ab9b708fa9850b219f40b8efd36b63f47593bdb6bb2"},
    {2, "182ea3a16cbb65ccd6c765b1b6deba82c0b42a0b1fb88017518d5bfd4c2ef700"},
    {3, "f2ce6bff8ef5400fe84c60d95b27eb840bc4ad6181135cb4d17a7fc1fb65568a"},
    {4, "34759b0d3038d777280e9ba7d7fef1b49ad90e7e433d50f51be8f88b777becad"},
    {5, "3b4f23c7fca30ec61c24bb4bb1720f84be0420e61b8c71d2b30df4fb62a4b03b"},
    {6, "3cc0cb73c5f2a1257805be4ec16eac04e700d23708fed72618f78b2ca95aca67"},
    {7, "b1451ca0e26329dab45b6032eca60e7e9126e8798ac7a4ba7dfa52b8fc03f037"},
    {8, "85299c015d79bc2811c2789ebbec0d34b18fca69f435697fe0e4160631e09b53"},
    {9, "20d4f5e6be4b24e2dc9325167505e6a71f5fc92720c1336a81e0d81889d36902"},
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
    {32, "cfbfb728590bbab46f82e6bfdd7e707e84a1df380ce70a2fafcdbb8b4a13a149"},
    {33, "879a06d5d5f751560dec5967cf8f2be5b4a793e013d82071ce028cad93d61b77"},
    {34, "0f960bc5f69d1dd4eaa0aefb2a6919fab2eb6b1ac72817e6b359a397b13a41ee"},
    {35, "8d80f5364de013020750f0d5bace8e0eea819fd2aae62b27cbe7ad98f2a7ed94"},
    {48, "a778c3954f90f375d504a213f375a2bfd518979c70cbaeb46b8c9106e24c670b"},
    {49, "94cf1cee77baac43e15228476e9efec4f37680fd708b20a3c3f07194c1422b21"},
    {50, "a4baa838a6f8f4cc44756ea17eac63c4a756b79495b9fdf3e526b2f05dda0457"},
    {51, "c03c64422a53632055edf51f15e6733c09c1f30aa3120a5fe818c0dd88bd81e4"},
    {52, "057abf88733fdfa646b98df3900e7617e78d909ea5648e2cb3bebd14bbfc0551"},
    {53, "30b6681481abcbede59b9f4e9730ad749d312ecfa0fe0c5337a0ec368bd88d8d"},
    {55, "bcdfe71c4d1bbda8f44d8a8d526efa9e8e7a3fa9cfe0d8f164d3cec9538d66c4"},
    {57, "8bbc1a3a31b547049e5c4bf390e3edd8cfcc2973a84b256942d354ddd70ae481"},
    {59, "e3d235e6bc10dca50daa28ad2909d58b38877ab0d843c3dd5c94337d84a142ca"},
    {80, "6d74b809af9f5e1829129d28054882cd2a86df2a18433c993fedc846e3236ced"},
    {81, "eb7f1081fa36f370db232faf0c0d10c0a13e1e4959873df53b3f97e12950fc6a"},
    {82, "61c8eba594982c415460b1529819ca4da3fd3c20d55f0efabc5c75cb9025d7a0"},
    {83, "a8a3d381f2b6faa4e30a1e4efcc67640b5c55a8d74fda3d92739673078e73b92"},
    {84, "daae31130d6a87c2f496db3a82e826e935ecf88a092a487909fa74378473920f"},
};

TEST(Golden, BlocksAreThoseOfLibgguf) {
  const Matrix matrix = Plain();
  for (const Golden& golden : kGolden) {
    const Quantizer& quantizer = *FindQuantizer(golden.id);
    for (const kernels::Target target : Targets()) {
      EXPECT_EQ(Sha256Hex(Quantize(quantizer, target, matrix)), golden.sha256)
          << quantizer.name << ", target " << static_cast<int>(target);
    }
  }
}

}  // namespace
}  // namespace zipllm::quantizers
