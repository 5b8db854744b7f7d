#include "store/format.h"

#include <algorithm>
#include <charconv>
#include <random>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "container/format.h"
#include "container/xxh3.h"

namespace zipllm {
namespace {

constexpr size_t kMaxModelName = 160;
constexpr size_t kMaxRevision = 80;
constexpr size_t kMaxKeyPart = 255;
constexpr size_t kIdDigits = 32;

bool IsKeyByte(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
         (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-' || c == '+';
}

// One part of a key for any text: bytes that keys do not have, and a dot at the
// beginning (so that no file is hidden), as '%' and two digits.
std::string Escape(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (IsKeyByte(c) && !(i == 0 && c == '.')) {
      out += c;
      continue;
    }
    const auto byte = static_cast<uint8_t>(c);
    out += '%';
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

// What Escape makes of it is `part`, or nothing.
std::optional<std::string> Unescape(std::string_view part) {
  std::string out;
  for (size_t i = 0; i < part.size(); ++i) {
    if (part[i] != '%') {
      out += part[i];
      continue;
    }
    unsigned byte = 0;
    const std::string_view digits = part.substr(i + 1, 2);
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
    if (digits.size() != 2 || error != std::errc() ||
        end != digits.data() + digits.size()) {
      return std::nullopt;
    }
    out += static_cast<char>(byte);
    i += 2;
  }
  if (Escape(out) != part) return std::nullopt;
  return out;
}

// Whether it may be a part of a name, or a revision.
bool IsNamePart(std::string_view part) {
  return !part.empty() && part != "." && part != ".." &&
         std::ranges::none_of(part, [](char c) {
           return static_cast<uint8_t>(c) < 32 || c == '@' || c == '/';
         });
}

}  // namespace

absl::StatusOr<ModelName> ModelName::Parse(const std::string& text) {
  ModelName name;
  const size_t at = text.find('@');
  name.name = text.substr(0, at);
  if (at != std::string::npos) name.revision = text.substr(at + 1);
  RETURN_IF_ERROR(store::CheckModelName(name));
  return name;
}

namespace store {
namespace {

bool IsId(std::string_view id) {
  return id.size() == kIdDigits && std::ranges::all_of(id, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// A small text: "WHAT VERSION", lines of a word and what belongs to it, and at
// the end "check" and the XXH3 of all lines before as 16 digits.
class TextWriter {
 public:
  TextWriter(std::string_view what, uint32_t version) {
    text_ = StrCat(what, " ", version, "\n");
  }
  template <typename... Parts>
  void Line(const Parts&... parts) {
    text_ += StrCat(parts..., "\n");
  }
  std::string Finish() && {
    const uint64_t hash = Xxh3(AsBytes(text_));
    std::array<uint8_t, 8> digits;
    for (size_t i = 0; i < digits.size(); ++i) {
      digits[i] = static_cast<uint8_t>(hash >> (56 - 8 * i));
    }
    text_ += "check " + Hex(digits) + "\n";
    return std::move(text_);
  }

 private:
  std::string text_;
};

// Reads what TextWriter writes. Parsers of what is in it are lenient and
// compare at the end with what would have been written.
class TextReader {
 public:
  // `what` outlives it.
  static absl::StatusOr<TextReader> Open(ByteSpan bytes, std::string_view what,
                                         uint32_t version) {
    TextReader reader(what);
    std::string_view text(reinterpret_cast<const char*>(bytes.data()),
                          bytes.size());
    if (text.size() > kMaxSmallValue) return reader.Error("is too long");
    const size_t line = std::min(text.find('\n'), text.size());
    std::string_view first = text.substr(0, line);
    uint32_t its_version = 0;
    if (!first.starts_with(what) || !first.substr(what.size()).starts_with(" "))
      return reader.Error("does not begin as one");
    first.remove_prefix(what.size() + 1);
    const auto [end, error] =
        std::from_chars(first.data(), first.data() + first.size(), its_version);
    if (error != std::errc() || end != first.data() + first.size())
      return reader.Error("has no version");
    if (its_version != version) {
      return Unimplemented("this ", what, " has version ", its_version,
                           "; this zipllm reads version ", version,
                           ": use a zipllm that reads version ", its_version);
    }
    reader.rest_ = text.substr(std::min(line + 1, text.size()));
    return reader;
  }
  // The rest of the next line if that begins with `word`.
  std::optional<std::string_view> Line(std::string_view word) {
    const size_t line = std::min(rest_.find('\n'), rest_.size());
    std::string_view text = rest_.substr(0, line);
    if (!text.starts_with(word)) return std::nullopt;
    text.remove_prefix(word.size());
    if (!text.empty() && text[0] != ' ') return std::nullopt;
    if (!text.empty()) text.remove_prefix(1);
    rest_.remove_prefix(std::min(line + 1, rest_.size()));
    return text;
  }
  template <typename T>
  absl::StatusOr<T> Number(std::string_view word) {
    const std::optional<std::string_view> text = Line(word);
    T value{};
    if (text.has_value()) {
      const auto [end, error] =
          std::from_chars(text->data(), text->data() + text->size(), value);
      if (error == std::errc() && end == text->data() + text->size())
        return value;
    }
    return Error("has no number \"" + std::string(word) + "\" in its place");
  }
  absl::Status Error(const std::string& problem) const {
    return DataLoss("a ", what_, " is damaged: it ", problem);
  }

 private:
  explicit TextReader(std::string_view what) : what_(what) {}
  std::string_view what_;
  std::string_view rest_;
};

constexpr std::string_view kHeaderWord = "zipllm-store";
constexpr std::string_view kReferenceWord = "zipllm-reference";
constexpr std::string_view kCondemnedWord = "zipllm-condemned";
constexpr std::string_view kDamagedWord = "zipllm-damaged";
constexpr uint32_t kHeaderVersion = 1;
constexpr uint32_t kReferenceVersion = 1;
constexpr uint32_t kCondemnedVersion = 1;
constexpr uint32_t kDamagedVersion = 1;
// By Condemnation::Phase.
constexpr std::array<std::string_view, 5> kPhases = {
    "condemned", "adders", "readers", "deleting", "kept"};
// A line of one has 72 bytes.
constexpr size_t kMaxDamaged = 800;

// Those that this version knows, by operation: none yet.
bool KnowsFeature(Operation, const std::string&) { return false; }

std::string Joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += " " + word;
  return out;
}

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

using Magic = std::array<uint8_t, 8>;
constexpr Magic kManifestMagic = {'Z', 'L', 'L', 'M', 'M', 'A', 'N', '\n'};
constexpr Magic kSketchesMagic = {'Z', 'L', 'L', 'M', 'S', 'K', 'E', '\n'};
constexpr uint64_t kManifestVersion = 1;
constexpr uint64_t kSketchesVersion = 1;
constexpr uint64_t kMaxEntryHead = uint64_t{1} << 14;
constexpr uint64_t kMaxFormatName = 64;
constexpr uint64_t kMaxSegmentName = 65535;
constexpr uint64_t kMaxRank = 64;
constexpr uint64_t kMaxPlainBytes = INT64_MAX;
constexpr uint8_t kMaxLog2Elements = 48;

void WriteStart(const Magic& magic, uint64_t version, ByteWriter& writer) {
  writer.Bytes(magic);
  writer.Varint(version);
}

std::vector<uint8_t> WithHash(Buffer bytes) {
  ByteWriter(&bytes).Le<uint64_t>(Xxh3(bytes.span()));
  return {bytes.begin(), bytes.end()};
}

// Checks magic, version and the hash at the end; a reader of what is between.
absl::StatusOr<ByteReader> ReadStart(ByteSpan bytes, const Magic& magic,
                                     uint64_t version, std::string_view what) {
  ByteReader start(bytes, what);
  const absl::StatusOr<ByteSpan> its_magic = start.Bytes(magic.size());
  if (!its_magic.ok() || !std::ranges::equal(*its_magic, magic))
    return DataLoss("this is no ", what, " (it does not begin as one)");
  ASSIGN_OR_RETURN(const uint64_t its_version, start.Varint());
  if (its_version != version) {
    return Unimplemented("this ", what, " has version ", its_version,
                         "; this zipllm reads version ", version,
                         ": use a zipllm that reads version ", its_version);
  }
  const size_t covered = bytes.size() - sizeof(uint64_t);
  if (start.remaining() < sizeof(uint64_t) ||
      LoadLe<uint64_t>(&bytes[covered]) != Xxh3(bytes.first(covered))) {
    return DataLoss("the ", what, " is damaged (checksum)");
  }
  const size_t begin = start.position();
  return ByteReader(bytes.subspan(begin, covered - begin), what, begin);
}

absl::StatusOr<Sha256Digest> ReadDigest(ByteReader& reader) {
  Sha256Digest digest;
  ASSIGN_OR_RETURN(const ByteSpan bytes, reader.Bytes(digest.size()));
  std::ranges::copy(bytes, digest.begin());
  return digest;
}

void WriteContent(const Manifest::File& file, ByteWriter& writer) {
  const Entry& entry = file.entry;
  writer.Varint(entry.size);
  writer.Bytes(entry.sha256);
  writer.String(entry.layout.format);
  writer.Varint(entry.layout.segments.size());
  for (size_t i = 0; i < entry.layout.segments.size(); ++i) {
    const Segment& segment = entry.layout.segments[i];
    writer.Le(static_cast<uint8_t>(segment.dtype));
    writer.Varint(segment.length);
    writer.String(segment.name);
    writer.Varint(segment.shape.size());
    for (const uint64_t dimension : segment.shape) writer.Varint(dimension);
    const Manifest::Part& part = file.parts[i];
    if (segment.length <= kMaxLiteral) {
      writer.Bytes(part.literal);
    } else {
      writer.Bytes(part.object);
    }
  }
}

absl::Status ReadContent(ByteReader& reader, Manifest::File& file) {
  Entry& entry = file.entry;
  ASSIGN_OR_RETURN(entry.size, reader.Varint(kMaxPlainBytes));
  ASSIGN_OR_RETURN(entry.sha256, ReadDigest(reader));
  ASSIGN_OR_RETURN(entry.layout.format, reader.String(kMaxFormatName));
  // A segment takes at least 4 bytes: what is left bounds how many there can
  // be.
  ASSIGN_OR_RETURN(const uint64_t count, reader.Varint(reader.remaining() / 4));
  entry.layout.segments.resize(count);
  file.parts.resize(count);
  uint64_t offset = 0;
  for (uint64_t i = 0; i < count; ++i) {
    Segment& segment = entry.layout.segments[i];
    ASSIGN_OR_RETURN(const uint8_t dtype, reader.Le<uint8_t>());
    segment.dtype = static_cast<DType>(dtype);
    if (FindDType(segment.dtype) == nullptr) segment.dtype = DType::kBytes;
    segment.offset = offset;
    ASSIGN_OR_RETURN(segment.length, reader.Varint(entry.size - offset));
    offset += segment.length;
    ASSIGN_OR_RETURN(segment.name, reader.String(kMaxSegmentName));
    ASSIGN_OR_RETURN(const uint64_t rank, reader.Varint(kMaxRank));
    // A dimension takes at least one byte.
    if (rank > reader.remaining()) return reader.Error("a shape is cut");
    segment.shape.resize(rank);
    for (uint64_t& dimension : segment.shape) {
      ASSIGN_OR_RETURN(dimension, reader.Varint());
    }
    Manifest::Part& part = file.parts[i];
    if (segment.length <= kMaxLiteral) {
      ASSIGN_OR_RETURN(const ByteSpan literal, reader.Bytes(segment.length));
      part.literal.assign(literal.begin(), literal.end());
    } else {
      ASSIGN_OR_RETURN(part.object, ReadDigest(reader));
    }
  }
  if (offset != entry.size) {
    return reader.Error("segments of ", entry.path,
                        " do not add up to its size");
  }
  return absl::OkStatus();
}

}  // namespace

std::string NewPackId() {
  std::random_device random;
  std::array<uint8_t, kIdDigits / 2> bytes;
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return Hex(bytes);
}

storage::Key PackKey(const std::string& id) {
  return kPacksPrefix + id.substr(0, 2) + "/" + id + ".zllm";
}

std::string PackIdOf(const storage::Key& key) {
  const size_t slash = key.rfind('/');
  if (slash == std::string::npos) return "";
  const std::string id = key.substr(slash + 1, kIdDigits);
  return IsId(id) && PackKey(id) == key ? id : "";
}

absl::Status CheckModelName(const ModelName& name) {
  bool good = name.name.size() <= kMaxModelName;
  for (size_t start = 0; good && start <= name.name.size();) {
    const size_t end = std::min(name.name.find('/', start), name.name.size());
    good = IsNamePart(std::string_view(name.name).substr(start, end - start));
    start = end + 1;
  }
  if (!good || Escape(name.name).size() > kMaxKeyPart) {
    return InvalidArgument(
        "\"", name.name,
        "\" is no name of a model: use parts joined by '/', at ", "most ",
        kMaxModelName,
        " bytes in all, without '@' and control characters, as in org/model");
  }
  if (name.revision.size() > kMaxRevision || !IsNamePart(name.revision)) {
    return InvalidArgument(
        "\"", name.revision, "\" is no revision of a model: use at most ",
        kMaxRevision, " bytes without '/', '@' and control characters");
  }
  return absl::OkStatus();
}

storage::Key ReferenceKey(const ModelName& name) {
  return kReferencesPrefix + Escape(name.name) + "/" + Escape(name.revision);
}

absl::StatusOr<ModelName> ModelNameOf(const storage::Key& key) {
  std::string_view rest = key;
  if (rest.starts_with(kReferencesPrefix)) {
    rest.remove_prefix(std::string_view(kReferencesPrefix).size());
    const size_t slash = rest.find('/');
    if (slash != std::string_view::npos) {
      const auto name = Unescape(rest.substr(0, slash));
      const auto revision = Unescape(rest.substr(slash + 1));
      if (name.has_value() && revision.has_value()) {
        const ModelName model = {*name, *revision};
        if (CheckModelName(model).ok()) return model;
      }
    }
  }
  return DataLoss("the key \"", key,
                  "\" is none of a reference: something else wrote it");
}

storage::Key CondemnedKey(const std::string& pack) {
  return kCondemnedPrefix + pack;
}

storage::Key DamagedKey(const std::string& pack) {
  return kDamagedPrefix + pack;
}

std::string WriteStoreHeader(const StoreHeader& header) {
  TextWriter writer(kHeaderWord, header.version);
  writer.Line("id ", header.id);
  writer.Line("read", Joined(header.read));
  writer.Line("add", Joined(header.add));
  writer.Line("delete", Joined(header.remove));
  return std::move(writer).Finish();
}

absl::StatusOr<StoreHeader> ParseStoreHeader(ByteSpan bytes) {
  ASSIGN_OR_RETURN(TextReader reader,
                   TextReader::Open(bytes, kHeaderWord, kHeaderVersion));
  StoreHeader header;
  header.version = kHeaderVersion;
  header.id = reader.Line("id").value_or("");
  header.read = Words(reader.Line("read").value_or(""));
  header.add = Words(reader.Line("add").value_or(""));
  header.remove = Words(reader.Line("delete").value_or(""));
  if (!IsId(header.id)) return reader.Error("has no id of a store");
  if (!std::ranges::equal(AsBytes(WriteStoreHeader(header)), bytes))
    return reader.Error("does not match its checksum, or is not in order");
  return header;
}

absl::Status CheckFeatures(const StoreHeader& header, Operation operation) {
  const auto& [features, verb] =
      operation == Operation::kRead ? std::pair(header.read, "read it")
      : operation == Operation::kAdd
          ? std::pair(header.add, "add to it")
          : std::pair(header.remove, "delete from it");
  for (const std::string& feature : features) {
    if (!KnowsFeature(operation, feature)) {
      return Unimplemented("the store has the feature \"", feature,
                           "\", without which this zipllm may not ", verb,
                           ": use a newer one");
    }
  }
  return absl::OkStatus();
}

std::string WriteReference(const Reference& reference) {
  TextWriter writer(kReferenceWord, kReferenceVersion);
  writer.Line("manifest ", Hex(reference.manifest));
  writer.Line("length ", reference.manifest_length);
  writer.Line("created ", reference.created_seconds);
  writer.Line("files ", reference.files);
  writer.Line("bytes ", reference.plain_bytes);
  return std::move(writer).Finish();
}

absl::StatusOr<Reference> ParseReference(ByteSpan bytes) {
  ASSIGN_OR_RETURN(TextReader reader,
                   TextReader::Open(bytes, kReferenceWord, kReferenceVersion));
  Reference reference;
  const auto manifest = ParseSha256(reader.Line("manifest").value_or(""));
  if (!manifest.has_value()) return reader.Error("names no manifest");
  reference.manifest = *manifest;
  ASSIGN_OR_RETURN(reference.manifest_length,
                   reader.Number<uint64_t>("length"));
  ASSIGN_OR_RETURN(reference.created_seconds,
                   reader.Number<int64_t>("created"));
  ASSIGN_OR_RETURN(reference.files, reader.Number<uint64_t>("files"));
  ASSIGN_OR_RETURN(reference.plain_bytes, reader.Number<uint64_t>("bytes"));
  if (reference.manifest_length > kMaxManifest ||
      reference.plain_bytes > kMaxPlainBytes) {
    return reader.Error("has sizes above the format's limits");
  }
  if (!std::ranges::equal(AsBytes(WriteReference(reference)), bytes))
    return reader.Error("does not match its checksum");
  return reference;
}

std::string WriteCondemnation(const Condemnation& condemnation) {
  TextWriter writer(kCondemnedWord, kCondemnedVersion);
  writer.Line("phase ", kPhases[static_cast<size_t>(condemnation.phase)]);
  writer.Line("since ", condemnation.since_seconds);
  for (const std::string& lease : condemnation.blockers) {
    writer.Line("blocker ", lease);
  }
  return std::move(writer).Finish();
}

absl::StatusOr<Condemnation> ParseCondemnation(ByteSpan bytes) {
  ASSIGN_OR_RETURN(TextReader reader,
                   TextReader::Open(bytes, kCondemnedWord, kCondemnedVersion));
  Condemnation condemnation;
  const auto phase = std::ranges::find(kPhases, reader.Line("phase"));
  if (phase == kPhases.end()) return reader.Error("has no phase");
  condemnation.phase =
      static_cast<Condemnation::Phase>(phase - kPhases.begin());
  ASSIGN_OR_RETURN(condemnation.since_seconds, reader.Number<int64_t>("since"));
  while (const auto lease = reader.Line("blocker")) {
    condemnation.blockers.emplace_back(*lease);
  }
  if (!std::ranges::equal(AsBytes(WriteCondemnation(condemnation)), bytes))
    return reader.Error("does not match its checksum");
  return condemnation;
}

std::string WriteDamage(const Damage& damage) {
  TextWriter writer(kDamagedWord, kDamagedVersion);
  if (damage.all || damage.objects.size() > kMaxDamaged) {
    writer.Line("all");
  } else {
    for (const Sha256Digest& object : damage.objects) {
      writer.Line("object ", Hex(object));
    }
  }
  return std::move(writer).Finish();
}

absl::StatusOr<Damage> ParseDamage(ByteSpan bytes) {
  ASSIGN_OR_RETURN(TextReader reader,
                   TextReader::Open(bytes, kDamagedWord, kDamagedVersion));
  Damage damage;
  damage.all = reader.Line("all").has_value();
  while (const auto text = reader.Line("object")) {
    const auto object = ParseSha256(*text);
    if (!object.has_value()) return reader.Error("names no object");
    damage.objects.push_back(*object);
  }
  if (!std::ranges::equal(AsBytes(WriteDamage(damage)), bytes) ||
      !std::ranges::is_sorted(damage.objects)) {
    return reader.Error("does not match its checksum, or is not in order");
  }
  return damage;
}

namespace {
constexpr std::string_view kObjectMagic = "zllmobj-";
}  // namespace

std::string ObjectEntryName(const Sha256Digest& sha256) {
  return std::string(kObjectMagic) + Hex(sha256);
}

std::optional<Sha256Digest> ObjectOfEntry(const std::string& path) {
  if (!path.starts_with(kObjectMagic)) return std::nullopt;
  return ParseSha256(std::string_view(path).substr(kObjectMagic.size()));
}

std::vector<uint8_t> WriteManifest(const Manifest& manifest) {
  Buffer bytes;
  ByteWriter writer(&bytes);
  WriteStart(kManifestMagic, kManifestVersion, writer);
  writer.Varint(manifest.files.size());
  Buffer head;
  for (const Manifest::File& file : manifest.files) {
    head.Clear();
    container::WriteEntryHead(file.entry, &head);
    writer.Varint(head.size());
    writer.Bytes(head.span());
    if (file.entry.kind == EntryKind::kFile) WriteContent(file, writer);
  }
  return WithHash(std::move(bytes));
}

absl::StatusOr<Manifest> ParseManifest(ByteSpan bytes) {
  if (bytes.size() > kMaxManifest)
    return DataLoss("a manifest of ", bytes.size(), " bytes is too large");
  ASSIGN_OR_RETURN(ByteReader reader, ReadStart(bytes, kManifestMagic,
                                                kManifestVersion, "manifest"));
  ASSIGN_OR_RETURN(const uint64_t count, reader.Varint());
  Manifest manifest;
  uint64_t plain_bytes = 0;
  for (uint64_t i = 0; i < count; ++i) {
    Manifest::File file;
    ASSIGN_OR_RETURN(const uint64_t head_size, reader.Varint(kMaxEntryHead));
    ASSIGN_OR_RETURN(const ByteSpan head, reader.Bytes(head_size));
    absl::StatusOr<Entry> entry = container::ParseEntryHead(head);
    if (!entry.ok()) return Annotate(entry.status(), "a manifest: ");
    file.entry = *std::move(entry);
    if (file.entry.kind == EntryKind::kFile) {
      RETURN_IF_ERROR(ReadContent(reader, file));
      plain_bytes += file.entry.size;
      if (plain_bytes > kMaxPlainBytes)
        return reader.Error("files of more bytes than there can be");
    }
    manifest.files.push_back(std::move(file));
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  RETURN_IF_ERROR(container::CheckTree("the manifest", manifest.files.size(),
                                       [&manifest](size_t i) -> const Entry& {
                                         return manifest.files[i].entry;
                                       }));
  const Entry& first = manifest.files[0].entry;
  if (first.kind == EntryKind::kFile &&
      (first.path.empty() || first.path.find('/') != std::string::npos)) {
    return DataLoss("the manifest's single file has the path \"", first.path,
                    "\", not a name");
  }
  return manifest;
}

std::vector<uint8_t> WriteSketches(const std::vector<TensorSketch>& sketches) {
  Buffer bytes;
  ByteWriter writer(&bytes);
  WriteStart(kSketchesMagic, kSketchesVersion, writer);
  writer.Varint(sketches.size());
  for (const TensorSketch& sketch : sketches) {
    writer.Bytes(sketch.object);
    writer.Le(sketch.log2_elements);
    for (const uint64_t word : sketch.bits) writer.Le(word);
  }
  return WithHash(std::move(bytes));
}

absl::StatusOr<std::vector<TensorSketch>> ParseSketches(ByteSpan bytes) {
  ASSIGN_OR_RETURN(ByteReader reader, ReadStart(bytes, kSketchesMagic,
                                                kSketchesVersion, "sketches"));
  constexpr size_t kBytesEach = 32 + 1 + 64;
  ASSIGN_OR_RETURN(const uint64_t count,
                   reader.Varint(reader.remaining() / kBytesEach));
  std::vector<TensorSketch> sketches(count);
  for (TensorSketch& sketch : sketches) {
    ASSIGN_OR_RETURN(sketch.object, ReadDigest(reader));
    ASSIGN_OR_RETURN(sketch.log2_elements, reader.Le<uint8_t>());
    if ((sketch.log2_elements & ~kNearSketch) > kMaxLog2Elements)
      return reader.Error("a sketch of kind ", int{sketch.log2_elements});
    for (uint64_t& word : sketch.bits) {
      ASSIGN_OR_RETURN(word, reader.Le<uint64_t>());
    }
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  return sketches;
}

}  // namespace store
}  // namespace zipllm
