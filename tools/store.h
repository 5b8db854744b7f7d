// What the commands of `zipllm store` have in common.
#ifndef ZIPLLM_TOOLS_STORE_H_
#define ZIPLLM_TOOLS_STORE_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/command_line.h"
#include "tools/console.h"
#include "tools/json.h"
#include "zipllm/store.h"

namespace zipllm::tools {

/// Settings of a store by the command line.
StoreOptions StoreSettings(const CommandOptions& options);

/// Opens the store that the command line names and does `work` with it, which
/// returns what there is to say as JSON. Shows progress, warnings and errors;
/// `if_exists` is the remedy where the error is ALREADY_EXISTS.
void RunOnStore(
    const CommandOptions& options, Console& console,
    const std::function<absl::StatusOr<Json>(Store&, const ProgressReport&)>&
        work,
    const std::string& if_exists = "");

/// Model names as the command line has them; INVALID_ARGUMENT.
absl::StatusOr<std::vector<ModelName>> ParseNames(
    const std::vector<std::string>& texts);

/// {"name", "revision"}.
Json NameJson(const ModelName& name);
/// The same, with manifest, created, files and plain_bytes.
Json ModelJson(const ModelInfo& model);
/// [{"name", "revision", "plain_bytes"}].
Json BasesJson(const std::vector<std::pair<ModelName, uint64_t>>& bases);

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_STORE_H_
