// zipllm mount: a store or an archive as a read-only file system.
#include "mount/mount.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "base/status.h"
#include "tools/command.h"
#include "tools/format.h"
#include "tools/interrupt.h"
#include "tools/open_archive.h"
#include "tools/store.h"

namespace zipllm::tools {
namespace {

absl::StatusOr<std::unique_ptr<mount::Tree>> OpenTree(const std::string& source,
                                                      CommandOptions options,
                                                      const Console& console) {
  options.threads = 1;  // each thread of the mount decodes a block of its own
  std::error_code error;
  if (std::filesystem::is_directory(source, error)) {
    ASSIGN_OR_RETURN(Store store, Store::Open(source, StoreSettings(options)));
    return mount::MakeStoreTree(std::move(store));
  }
  ASSIGN_OR_RETURN(Archive archive, OpenArchive(source, options, console));
  return mount::MakeArchiveTree(std::move(archive));
}

absl::Status RunMount(const std::string& input, const CommandOptions& options,
                      Console& console) {
  mount::MountOptions settings;
  // The background works at "/".
  CommandOptions absolute = options;
  std::error_code error;
  const std::string source = std::filesystem::absolute(input, error);
  settings.directory = std::filesystem::absolute(options.output, error);
  for (std::string& base : absolute.bases) {
    base = std::filesystem::absolute(base, error);
  }
  if (!absolute.text_model.empty()) {
    absolute.text_model = std::filesystem::absolute(absolute.text_model, error);
  }
  settings.source = source;
  settings.threads = options.threads;
  for (const std::string& list : options.mount_options) {
    RETURN_IF_ERROR(mount::AddMountOptions(list, &settings));
  }
  settings.allow_other = settings.allow_other || options.allow_other;
  settings.stop_descriptor = InterruptDescriptor();

  std::optional<mount::Background> background;
  if (!options.foreground) {
    ASSIGN_OR_RETURN(mount::Background entered, mount::Background::Enter());
    background.emplace(std::move(entered));
    settings.ready = [&] { background->Ready(); };
    settings.log = mount::LogToSystem;
  } else {
    settings.ready = [&] {
      console.Note(Printable(settings.directory) + ": mounted");
    };
  }
  mount::MountTotals totals;
  settings.totals = &totals;
  ASSIGN_OR_RETURN(std::unique_ptr<mount::Tree> tree,
                   OpenTree(source, absolute, console));
  RETURN_IF_ERROR(mount::Mount(std::move(tree), settings));
  console.Detail(Printable(settings.directory) + ": read " +
                 HumanBytes(totals.read_bytes) + ", decoded " +
                 HumanBytes(totals.decoded_bytes));
  return absl::OkStatus();
}

}  // namespace

void RunMount(const CommandOptions& options, Console& console) {
  const std::string& input = options.inputs.front();
  absl::Status status = RunMount(input, options, console);
  if (!status.ok()) console.Fail(input, status);
}

}  // namespace zipllm::tools
