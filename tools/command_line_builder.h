// How the command line is put together: command_line.cc has the frame and the
// options that commands share, the files beside it have the commands.
#ifndef ZIPLLM_TOOLS_COMMAND_LINE_BUILDER_H_
#define ZIPLLM_TOOLS_COMMAND_LINE_BUILDER_H_

#include <memory>
#include <string>
#include <vector>

#include "tools/command_line.h"

namespace zipllm::tools {

/// Builds the parser once; what the parser keeps refers to the options alone.
class CommandLineBuilder {
 public:
  /// As MakeCommandLine.
  CommandLineBuilder(CommandOptions* options,
                     const std::vector<std::string>* arguments)
      : options_(*options), arguments_(arguments) {}

  std::unique_ptr<CLI::App> Build();

 private:
  static constexpr const char* kLevelFlags =
      "-1{1},-2{2},-3{3},-4{4},-5{5},-6{6},-7{7},-8{8},-9{9},--fast{1},"
      "--best{9}";

  // command_line_archive.cc
  void AddCompress();
  void AddDecompress();
  void AddList();
  void AddInfo();
  void AddTest();
  void AddCat();
  void AddGrep();
  void AddDerive();
  void AddBench();

  // command_line_store.cc
  void AddStore();
  void AddStoreInit();
  void AddStoreAdd();
  void AddStoreList();
  void AddStoreShow();
  void AddStoreGet();
  void AddStoreRemove();
  void AddStoreGc();
  void AddStoreFsck();
  void AddStoreStats();
  void AddStoreRepack();
  void AddStoreExport();
  void AddMount();
  void StoreArgument();
  void ModelArgument();
  CLI::Option* ModelsArgument(const char* description);
  void StoreOptionsOf(bool writes);
  void Depth(const char* description);

  // Starts a subcommand; false where its options are not wanted.
  bool Begin(const char* name, const char* alias, const char* description);
  CLI::Option* Inputs(const char* name, const char* description);
  void Output(const char* description);
  void Levels();
  void NoVerify();
  void Replacing();
  void Reporting(const char* json_description);
  void QuietVerbose();
  void Threads();
  void Memory();
  void TextModel(const char* description);
  void Bases(const char* description);
  void DecodeBases();
  void Sync();
  void Sha256();

  CommandOptions& options_;
  const std::vector<std::string>* arguments_;
  size_t depth_ = 0;  // of what is being built, below the program
  std::unique_ptr<CLI::App> app_;
  CLI::App* group_ = nullptr;
  CLI::App* command_ = nullptr;
};

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_COMMAND_LINE_BUILDER_H_
