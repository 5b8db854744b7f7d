#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <map>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include "mount/entry_tree.h"
#include "mount/tree.h"

namespace zipllm::mount {
namespace {

using Clock = std::chrono::steady_clock;

// Names are listed so often that it takes this part of the time at most.
constexpr int kListingShare = 20;
// A model is opened anew after this time, so that what keeps gc from deleting
// is never much older, unless a file of it is open.
constexpr auto kMaxAge = std::chrono::minutes(1);
// Models that stay open though no file of theirs is.
constexpr size_t kMaxOpenModels = 64;

// The folders of names, and the revisions in them.
struct Listing {
  Clock::time_point made;
  Clock::duration cost{};
  std::map<std::string, std::set<std::string>> folders;  // what is in each
  std::map<std::string, ModelInfo> revisions;            // by path
};

std::shared_ptr<Listing> MakeListing(const std::vector<ModelInfo>& models) {
  auto listing = std::make_shared<Listing>();
  listing->folders[""];
  for (const ModelInfo& model : models) {
    const std::string& name = model.name.name;
    for (size_t begin = 0; begin <= name.size();) {
      const size_t end = std::min(name.find('/', begin), name.size());
      listing->folders[begin == 0 ? "" : name.substr(0, begin - 1)].insert(
          name.substr(begin, end - begin));
      begin = end + 1;
    }
    listing->folders[name];
  }
  for (const ModelInfo& model : models) {
    std::string revision = model.name.revision;
    // No part of a name begins so.
    if (listing->folders.contains(JoinPath(model.name.name, revision))) {
      revision.insert(0, 1, '@');
    }
    listing->folders[model.name.name].insert(revision);
    listing->revisions[JoinPath(model.name.name, revision)] = model;
  }
  return listing;
}

// A model that is open, and its entries by path.
struct OpenedModel {
  OpenedModel(std::shared_ptr<const StoredModel> opened,
              const std::string& place)
      : model(std::move(opened)), entries(model->entries(), place, "content") {}
  const std::shared_ptr<const StoredModel> model;
  const EntryTree entries;
  const Clock::time_point made = Clock::now();
};

class StoreFile : public File {
 public:
  StoreFile(std::shared_ptr<const OpenedModel> opened, size_t entry)
      : opened_(std::move(opened)), entry_(entry) {}
  uint64_t size() const override {
    return opened_->model->entries()[entry_].size;
  }
  const std::array<uint8_t, 32>& sha256() const override {
    return opened_->model->entries()[entry_].sha256;
  }
  absl::StatusOr<std::pair<uint64_t, uint64_t>> BlockAt(
      uint64_t offset) const override {
    return opened_->model->BlockAt(entry_, offset);
  }
  absl::Status Read(uint64_t offset, MutableByteSpan out) const override {
    return opened_->model->ReadRange(entry_, offset, out);
  }

 private:
  const std::shared_ptr<const OpenedModel> opened_;
  const size_t entry_;
};

class StoreTree : public Tree {
 public:
  StoreTree(Store store, std::chrono::milliseconds validity)
      : store_(std::move(store)), validity_(validity) {
    // Signals are for the thread that mounts.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    closer_ = std::jthread([this](std::stop_token stop) { CloseOld(stop); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  absl::StatusOr<Node> Find(const std::string& path) override {
    ASSIGN_OR_RETURN(const auto listing, List());
    if (const auto node = FolderOf(*listing, path)) return *node;
    ASSIGN_OR_RETURN(const Place place, PlaceOf(*listing, path));
    return place.opened->entries.Find(place.rest);
  }

  absl::StatusOr<std::vector<std::pair<std::string, Node>>> List(
      const std::string& path) override {
    ASSIGN_OR_RETURN(const auto listing, List());
    const auto folder = listing->folders.find(path);
    if (folder == listing->folders.end()) {
      ASSIGN_OR_RETURN(const Place place, PlaceOf(*listing, path));
      return place.opened->entries.List(place.rest);
    }
    std::vector<std::pair<std::string, Node>> list;
    for (const std::string& name : folder->second) {
      list.emplace_back(name, *FolderOf(*listing, JoinPath(path, name)));
    }
    return list;
  }

  absl::StatusOr<std::shared_ptr<const File>> Open(
      const std::string& path) override {
    ASSIGN_OR_RETURN(const auto listing, List());
    ASSIGN_OR_RETURN(const Place place, PlaceOf(*listing, path));
    ASSIGN_OR_RETURN(const size_t entry,
                     place.opened->entries.FindFile(place.rest));
    return std::make_shared<const StoreFile>(place.opened, entry);
  }

  absl::StatusOr<uint64_t> CodedSize(const std::string& path) override {
    ASSIGN_OR_RETURN(const auto listing, List());
    ASSIGN_OR_RETURN(const Place place, PlaceOf(*listing, path));
    ASSIGN_OR_RETURN(const size_t entry,
                     place.opened->entries.FindFile(place.rest));
    return place.opened->model->CodedSize(entry);
  }

  absl::StatusOr<Totals> Sum() override {
    ASSIGN_OR_RETURN(const auto listing, List());
    Totals totals;
    for (const auto& [path, model] : listing->revisions) {
      totals.plain_bytes += model.plain_bytes;
      totals.files += model.files;
    }
    return totals;
  }

  std::chrono::milliseconds Validity() const override { return validity_; }

 private:
  // One revision: who opens it, others wait for.
  struct Slot {
    std::mutex mutex;
    std::shared_ptr<const OpenedModel> opened;
    Clock::time_point used;  // under mutex_ of the tree
  };
  // A path in a revision.
  struct Place {
    std::shared_ptr<const OpenedModel> opened;
    std::string rest;
  };

  absl::StatusOr<std::shared_ptr<const Listing>> List() {
    std::lock_guard lock(listing_mutex_);
    const Clock::time_point now = Clock::now();
    if (listing_ != nullptr &&
        now - listing_->made < std::max<Clock::duration>(
                                   validity_, kListingShare * listing_->cost)) {
      return listing_;
    }
    ASSIGN_OR_RETURN(const std::vector<ModelInfo> models, store_.List());
    auto listing = MakeListing(models);
    listing->made = Clock::now();
    listing->cost = listing->made - now;
    listing_ = std::move(listing);
    return listing_;
  }

  // The node of a folder of names or of a revision; nullopt for others.
  static std::optional<Node> FolderOf(const Listing& listing,
                                      const std::string& path) {
    if (listing.folders.contains(path)) return MakeFolder(path);
    const auto revision = listing.revisions.find(path);
    if (revision == listing.revisions.end()) return std::nullopt;
    Node node = MakeFolder(path);
    node.has_metadata = true;
    node.mode = 0555;
    node.mtime_seconds = revision->second.created_seconds;
    return node;
  }

  absl::StatusOr<Place> PlaceOf(const Listing& listing,
                                const std::string& path) {
    for (size_t end = path.find('/');; end = path.find('/', end + 1)) {
      const std::string start = path.substr(0, end);
      const auto revision = listing.revisions.find(start);
      if (revision != listing.revisions.end()) {
        ASSIGN_OR_RETURN(auto opened, OpenRevision(start, revision->second));
        return Place{std::move(opened),
                     end == std::string::npos ? "" : path.substr(end + 1)};
      }
      if (end == std::string::npos) {
        return absl::NotFoundError("the store has no " + path);
      }
    }
  }

  absl::StatusOr<std::shared_ptr<const OpenedModel>> OpenRevision(
      const std::string& path, const ModelInfo& info) {
    const Clock::time_point now = Clock::now();
    std::shared_ptr<Slot> slot;
    {
      std::lock_guard lock(mutex_);
      std::shared_ptr<Slot>& place = slots_[path];
      if (place == nullptr) place = std::make_shared<Slot>();
      slot = place;
      slot->used = now;
      if (slots_.size() > kMaxOpenModels) {
        slots_.erase(std::ranges::min_element(
            slots_, {}, [](const auto& item) { return item.second->used; }));
      }
    }
    std::lock_guard lock(slot->mutex);
    if (slot->opened == nullptr || now - slot->opened->made > kMaxAge ||
        slot->opened->model->info().manifest != info.manifest) {
      slot->opened.reset();
      ASSIGN_OR_RETURN(auto model, store_.OpenModel(info.name));
      slot->opened =
          std::make_shared<const OpenedModel>(std::move(model), path);
    }
    return slot->opened;
  }

  // Models that nobody looks at are not to keep gc waiting.
  void CloseOld(std::stop_token stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      wake_.wait_for(lock, stop, kMaxAge / 4, [] { return false; });
      const Clock::time_point now = Clock::now();
      std::vector<std::shared_ptr<Slot>> old;
      std::erase_if(slots_, [&](const auto& item) {
        const bool is_old = now - item.second->used > kMaxAge;
        if (is_old) old.push_back(item.second);
        return is_old;
      });
      lock.unlock();
      old.clear();
      lock.lock();
    }
  }

  Store store_;
  const std::chrono::milliseconds validity_;
  std::mutex listing_mutex_;
  std::shared_ptr<Listing> listing_;
  std::mutex mutex_;  // of slots_; never waited for with a slot's
  std::map<std::string, std::shared_ptr<Slot>> slots_;  // by path
  std::condition_variable_any wake_;
  std::jthread closer_;  // last: it uses the rest
};

}  // namespace

std::unique_ptr<Tree> MakeStoreTree(Store store,
                                    std::chrono::milliseconds validity) {
  return std::make_unique<StoreTree>(std::move(store), validity);
}

}  // namespace zipllm::mount
