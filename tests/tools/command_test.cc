#include "tools/command.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "run_command.h"
#include "tools/interrupt.h"

namespace zipllm::tools {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

// A safetensors file with one BF16 tensor, "w" of `rows` rows of 64 weights,
// whose exponents are few and whose mantissas are not.
std::string Model(size_t rows) {
  std::string data;
  uint32_t state = 1;
  for (size_t i = 0; i < rows * 64; ++i) {
    state = state * 1664525 + 1013904223;
    unsigned exponent = 120 - static_cast<unsigned>(__builtin_clz(state | 1));
    unsigned bits = (state & 0x8000) | exponent << 7 | (state >> 8 & 0x7f);
    data += static_cast<char>(bits & 0xff);
    data += static_cast<char>(bits >> 8);
  }
  std::string header = R"({"w":{"dtype":"BF16","shape":[)" +
                       std::to_string(rows) + R"(,64],"data_offsets":[0,)" +
                       std::to_string(data.size()) + "]}}";
  std::string out(8, '\0');
  out[0] = static_cast<char>(header.size());
  return out + header + data;
}

class CommandTest : public testing::Test {
 protected:
  void TearDown() override { SetInterrupt(0); }
  TemporaryFolder folder_;
};

TEST_F(CommandTest, RestoresAFile) {
  const std::string model = folder_ / "model";
  WriteFile(model, Model(100));
  EXPECT_EQ(chmod(model.c_str(), 0640), 0);
  Outcome made = RunZipllm({"compress", model});
  EXPECT_EQ(made.code, kExitOk) << made.err;
  EXPECT_THAT(made.out, IsEmpty());
  EXPECT_THAT(made.err, IsEmpty());  // no terminal, no -v: silent
  EXPECT_EQ(
      RunZipllm({"decompress", folder_ / "model.zllm", "-o", folder_ / "back"})
          .code,
      kExitOk);
  EXPECT_EQ(ReadFile(folder_ / "back"), ReadFile(model));
  struct stat st;
  ASSERT_EQ(stat((folder_ / "back").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0640U);
}

TEST_F(CommandTest, RestoresStreams) {
  const std::string model = Model(100);
  Outcome archive = RunZipllm({"compress", "-"}, model);
  ASSERT_EQ(archive.code, kExitOk) << archive.err;
  EXPECT_LT(archive.out.size(), model.size());
  EXPECT_EQ(RunZipllm({"decompress", "-"}, archive.out).out, model);
  EXPECT_EQ(RunZipllm({"d", "-c", "-T1"}, archive.out).out, model);
  EXPECT_EQ(RunZipllm({"test"}, archive.out).code, kExitOk);
  EXPECT_EQ(RunZipllm({"compress", "-T3"}, model).out, archive.out);
}

TEST_F(CommandTest, InputThatIsAFileOnStandardInputStartsAtItsPosition) {
  MemoryFile in("skipped" + Model(10)), out, err;
  lseek(in.fd(), 7, SEEK_SET);
  ASSERT_EQ(RunCommand({"compress", "-"},
                       {.in = in.fd(), .out = out.fd(), .err = err.fd()}),
            kExitOk)
      << err.Content();
  EXPECT_EQ(RunZipllm({"decompress", "-"}, out.Content()).out, Model(10));
}

TEST_F(CommandTest, ExitCodes) {
  const std::string file = folder_ / "file";
  WriteFile(file, "text");
  EXPECT_EQ(RunZipllm({"--help"}).code, kExitOk);
  EXPECT_EQ(RunZipllm({}).code, kExitUsage);
  EXPECT_EQ(RunZipllm({"compress", "--no-such-option"}).code, kExitUsage);
  EXPECT_EQ(RunZipllm({"compress", folder_ / "missing"}).code, kExitError);
  EXPECT_EQ(RunZipllm({"decompress", file, "-o", folder_ / "x"}).code,
            kExitDamaged);
  EXPECT_FALSE(Exists(folder_ / "x"));
  ASSERT_EQ(mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  // A directory with a FIFO: the archive is made, the exit code warns.
  TemporaryFolder elsewhere;
  Outcome warned =
      RunZipllm({"compress", folder_ / "", "-o", elsewhere / "a.zllm"});
  EXPECT_EQ(warned.code, kExitWarning);
  EXPECT_THAT(warned.err,
              AllOf(StartsWith("zipllm: warning: "), HasSubstr("fifo")));
  EXPECT_EQ(RunZipllm({"test", elsewhere / "a.zllm"}).code, kExitOk);
  // The worst counts.
  EXPECT_EQ(
      RunZipllm({"test", elsewhere / "a.zllm", file, folder_ / "missing"}).code,
      kExitDamaged);
}

TEST_F(CommandTest, ErrorsNameTheFileOnce) {
  const std::string missing = folder_ / "missing";
  Outcome outcome = RunZipllm({"compress", missing});
  EXPECT_THAT(outcome.err, StartsWith("zipllm: "));
  EXPECT_THAT(outcome.err, HasSubstr("No such file or directory"));
  size_t first = outcome.err.find(missing);
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(outcome.err.find(missing, first + 1), std::string::npos);
}

TEST_F(CommandTest, InterruptStopsBeforeAnythingIsWritten) {
  const std::string model = folder_ / "model";
  WriteFile(model, Model(1000));
  ASSERT_EQ(RunZipllm({"compress", model}).code, kExitOk);
  for (int signal : {SIGINT, SIGTERM}) {
    SetInterrupt(signal);
    Outcome outcome =
        RunZipllm({"compress", "--rm", model, "-o", folder_ / "x"});
    EXPECT_EQ(outcome.code, 128 + signal);
    EXPECT_THAT(outcome.err, HasSubstr("interrupted"));
    EXPECT_EQ(
        RunZipllm({"decompress", folder_ / "model.zllm", "-o", folder_ / "x"})
            .code,
        128 + signal);
    EXPECT_EQ(RunZipllm({"test", folder_ / "model.zllm"}).code, 128 + signal);
    EXPECT_EQ(RunZipllm({"bench", "-n", "1", model}).code, 128 + signal);
    EXPECT_EQ(RunZipllm({"info", folder_ / "model.zllm"}).code, 128 + signal);
    EXPECT_EQ(RunZipllm({"cat", folder_ / "model.zllm", "w"}).code,
              128 + signal);
  }
  EXPECT_FALSE(Exists(folder_ / "x"));
  EXPECT_TRUE(Exists(model));
}

TEST_F(CommandTest, BlockedInputEndsWithTheSignal) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  InstallInterruptHandlers();
  std::jthread user([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    kill(getpid(), SIGINT);
  });
  MemoryFile out, err;
  EXPECT_EQ(RunCommand({"compress", "-"},
                       {.in = pipe_ends[0], .out = out.fd(), .err = err.fd()}),
            128 + SIGINT);
  user.join();
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  signal(SIGHUP, SIG_DFL);
  signal(SIGPIPE, SIG_DFL);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

TEST_F(CommandTest, InfoAccountsForEveryByte) {
  WriteFile(folder_ / "model", Model(500));
  ASSERT_EQ(RunZipllm({"compress", folder_ / "model"}).code, kExitOk);
  Outcome outcome = RunZipllm({"info", "--json", folder_ / "model.zllm"});
  ASSERT_EQ(outcome.code, kExitOk) << outcome.err;
  json archive = json::parse(outcome.out)["archives"][0];
  uint64_t coded = 0;
  for (const json& type : archive["by_dtype"]) {
    coded += type["coded_bytes"].get<uint64_t>();
  }
  EXPECT_EQ(coded + archive["index_bytes"].get<uint64_t>(),
            std::filesystem::file_size(folder_ / "model.zllm"));
  EXPECT_EQ(archive["weights"], 500 * 64);
  ASSERT_EQ(archive["by_tensor"].size(), 1U);
  EXPECT_EQ(archive["by_tensor"][0]["name"], "w");
  EXPECT_EQ(archive["by_tensor"][0]["dtype"], "BF16");
}

TEST_F(CommandTest, CatReadsATensor) {
  const std::string model = Model(500);
  WriteFile(folder_ / "model", model);
  ASSERT_EQ(RunZipllm({"compress", folder_ / "model"}).code, kExitOk);
  const std::string tensor = model.substr(model.size() - 500 * 128);
  EXPECT_EQ(RunZipllm({"cat", folder_ / "model.zllm", "w"}).out, tensor);
  EXPECT_EQ(
      RunZipllm({"cat", folder_ / "model.zllm", "w", "--range", "128:256"}).out,
      tensor.substr(128, 128));
  EXPECT_EQ(RunZipllm({"cat", "-", "--range", "0:8"},
                      ReadFile(folder_ / "model.zllm"))
                .out,
            model.substr(0, 8));
  Outcome verbose = RunZipllm({"cat", "-v", folder_ / "model.zllm", "w"});
  EXPECT_THAT(verbose.err, HasSubstr("read "));
  EXPECT_EQ(RunZipllm({"cat", folder_ / "model.zllm", "v"}).code, kExitError);
}

TEST_F(CommandTest, FullOutputIsAnError) {
  WriteFile(folder_ / "model", Model(10));
  ASSERT_EQ(RunZipllm({"compress", folder_ / "model"}).code, kExitOk);
  int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  MemoryFile in, err;
  EXPECT_EQ(RunCommand({"list", folder_ / "model.zllm"},
                       {.in = in.fd(), .out = full, .err = err.fd()}),
            kExitError);
  EXPECT_THAT(err.Content(), HasSubstr("standard output"));
  close(full);
}

TEST_F(CommandTest, LevelsAreTheLastFlagGiven) {
  WriteFile(folder_ / "model", Model(300));
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{
           {"-9"}, {"-1", "-9"}, {"--best"}, {"--fast", "-9"}}) {
    std::vector<std::string> arguments = {"compress", "-c", folder_ / "model"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    EXPECT_EQ(RunZipllm(arguments).out,
              RunZipllm({"compress", "-9", "-c", folder_ / "model"}).out);
  }
  json bench = json::parse(
      RunZipllm({"bench", "-2", "-1", "-n", "1", "--json", folder_ / "model"})
          .out);
  EXPECT_EQ(bench["files"][0]["levels"][0]["level"], 2);
  EXPECT_EQ(bench["files"][0]["levels"][1]["level"], 1);
}

}  // namespace
}  // namespace zipllm::tools
