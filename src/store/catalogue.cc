#include "store/catalogue.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <condition_variable>
#include <map>
#include <mutex>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"

namespace zipllm::store {
namespace {

// What brings the schema from one version to the next: a file of version n has
// had the first n of them. Never change one that was released.
//
// SQLite has signed numbers alone: sizes are stored as the same 64 bits. Names
// come from files and are any bytes: BLOB.
constexpr std::array kMigrations = {R"(
-- A pack that is in the store.
CREATE TABLE packs (
  pack INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  bytes INTEGER NOT NULL
) STRICT;

-- An object of another pack that one needs, and the depth it has there.
CREATE TABLE needs (
  pack INTEGER NOT NULL REFERENCES packs ON DELETE CASCADE,
  sha256 BLOB NOT NULL,
  depth INTEGER NOT NULL,
  PRIMARY KEY (pack, sha256)
) STRICT, WITHOUT ROWID;

-- An object as one pack has it: in the order of the pack.
CREATE TABLE objects (
  object INTEGER PRIMARY KEY,
  pack INTEGER NOT NULL REFERENCES packs ON DELETE CASCADE,
  sha256 BLOB NOT NULL,
  length INTEGER NOT NULL,
  coded_bytes INTEGER NOT NULL,
  depth INTEGER NOT NULL,
  dtype INTEGER NOT NULL,
  shape BLOB NOT NULL,    -- 8 bytes a dimension, little-endian
  name BLOB NOT NULL,
  format BLOB NOT NULL,
  sources BLOB NOT NULL,  -- 32 bytes each
  saved_delta INTEGER NOT NULL,
  saved_derived INTEGER NOT NULL,
  saved_entropy INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX objects_by_sha256 ON objects (sha256, depth, pack);
CREATE INDEX objects_by_pack ON objects (pack);

-- A sketch of a tensor that a pack has, and its bands: key is log2_elements,
-- the number of the band and its 24 bits (TensorSketch). Bands are taken out
-- with their sketch by whoever removes that.
CREATE TABLE sketches (
  sketch INTEGER PRIMARY KEY,
  pack INTEGER NOT NULL REFERENCES packs ON DELETE CASCADE,
  object BLOB NOT NULL,
  log2_elements INTEGER NOT NULL,
  bits BLOB NOT NULL
) STRICT;
CREATE INDEX sketches_by_pack ON sketches (pack);
CREATE INDEX sketches_by_object ON sketches (object);
CREATE TABLE bands (
  key INTEGER NOT NULL,
  sketch INTEGER NOT NULL,
  PRIMARY KEY (key, sketch)
) STRICT, WITHOUT ROWID;

-- A manifest whose objects are known, and these.
CREATE TABLE manifests (
  manifest INTEGER PRIMARY KEY,
  sha256 BLOB NOT NULL UNIQUE
) STRICT;
CREATE TABLE manifest_objects (
  object BLOB NOT NULL,
  manifest INTEGER NOT NULL REFERENCES manifests ON DELETE CASCADE,
  PRIMARY KEY (object, manifest)
) STRICT, WITHOUT ROWID;
CREATE INDEX objects_by_manifest ON manifest_objects (manifest);
)",
                                    R"(
-- Numbers of the objects that have sketches or users. Those that come together
-- have numbers side by side: what is known of a model's tensors is on few
-- pages, where a SHA-256 would scatter it over all.
CREATE TABLE digests (
  digest INTEGER PRIMARY KEY,
  sha256 BLOB NOT NULL UNIQUE
) STRICT;
INSERT OR IGNORE INTO digests (sha256)
  SELECT object FROM sketches ORDER BY sketch;
INSERT OR IGNORE INTO digests (sha256)
  SELECT object FROM manifest_objects ORDER BY manifest, object;

-- As before, but an object is its number, and its depth in the pack is here
-- too; NULL where the pack has the sketch alone.
CREATE TABLE numbered_sketches (
  sketch INTEGER PRIMARY KEY,
  pack INTEGER NOT NULL REFERENCES packs ON DELETE CASCADE,
  object INTEGER NOT NULL REFERENCES digests,
  depth INTEGER,
  log2_elements INTEGER NOT NULL,
  bits BLOB NOT NULL
) STRICT;
INSERT INTO numbered_sketches
  SELECT sketch, sketches.pack, digest, depth, log2_elements, bits
  FROM sketches JOIN digests ON digests.sha256 = sketches.object
  LEFT JOIN objects ON objects.sha256 = sketches.object
    AND objects.pack = sketches.pack
  GROUP BY sketch ORDER BY sketch;
DROP TABLE sketches;
ALTER TABLE numbered_sketches RENAME TO sketches;
CREATE INDEX sketches_by_pack ON sketches (pack);
CREATE INDEX sketches_by_object ON sketches (object);

CREATE TABLE numbered_manifest_objects (
  object INTEGER NOT NULL REFERENCES digests,
  manifest INTEGER NOT NULL REFERENCES manifests ON DELETE CASCADE,
  PRIMARY KEY (object, manifest)
) STRICT, WITHOUT ROWID;
INSERT INTO numbered_manifest_objects
  SELECT digest, manifest FROM manifest_objects
  JOIN digests ON digests.sha256 = manifest_objects.object;
DROP TABLE manifest_objects;
ALTER TABLE numbered_manifest_objects RENAME TO manifest_objects;
CREATE INDEX objects_by_manifest ON manifest_objects (manifest);
)"};
constexpr int64_t kSchemaVersion = kMigrations.size();
constexpr int64_t kApplicationId = 0x5A4C4C4D;  // "ZLLM"

constexpr int kBusyMilliseconds = 30'000;
constexpr size_t kMaxReaders = 4;
// Pages kept, in KiB; a writer of a band touches many.
constexpr int kReaderCacheKib = 8 << 10;
constexpr int kWriterCacheKib = 32 << 10;
constexpr int kMaxValueBytes = 1 << 28;
constexpr int64_t kMaxIdleWalBytes = int64_t{16} << 20;

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const {
    sqlite3_finalize(statement);
  }
};

// A row of a result, valid until the next one.
class Row {
 public:
  explicit Row(sqlite3_stmt* statement) : statement_(statement) {}
  uint64_t Number(int column) const {
    return static_cast<uint64_t>(sqlite3_column_int64(statement_, column));
  }
  uint8_t Byte(int column) const {
    return static_cast<uint8_t>(Number(column));
  }
  ByteSpan Bytes(int column) const {
    const void* bytes = sqlite3_column_blob(statement_, column);
    return {static_cast<const uint8_t*>(bytes),
            static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
  }
  std::string Text(int column) const {
    const ByteSpan bytes = Bytes(column);
    return {bytes.begin(), bytes.end()};
  }
  // Exactly as many bytes as `out` has.
  template <typename T, size_t n>
  absl::Status Array(int column, std::array<T, n>* out) const {
    const ByteSpan bytes = Bytes(column);
    if (bytes.size() != sizeof *out)
      return DataLoss("the catalogue has a value of ", bytes.size(), " bytes");
    std::memcpy(out->data(), bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  // As many as there are.
  template <typename T>
  absl::Status Vector(int column, std::vector<T>* out) const {
    const ByteSpan bytes = Bytes(column);
    if (bytes.size() % sizeof(T) != 0)
      return DataLoss("the catalogue has a value of ", bytes.size(), " bytes");
    out->resize(bytes.size() / sizeof(T));
    if (!bytes.empty())
      std::memcpy(static_cast<void*>(out->data()), bytes.data(), bytes.size());
    return absl::OkStatus();
  }

 private:
  sqlite3_stmt* statement_;
};

template <typename T>
ByteSpan BytesOf(const T& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()),
          values.size() * sizeof values[0]};
}

absl::StatusOr<uint64_t> NumberOf(const Row& row) { return row.Number(0); }

const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

// One connection to a database. Thread-compatible.
class Connection {
 public:
  static absl::StatusOr<std::unique_ptr<Connection>> Open(
      const std::string& path, bool reader, bool sync) {
    std::unique_ptr<Connection> connection(new Connection(path));
    RETURN_IF_ERROR(connection->Start(reader, sync));
    return connection;
  }

  // Runs a statement; `sql` is a literal. What it gives is passed over.
  template <typename... Arguments>
  absl::Status Run(std::string_view sql, const Arguments&... arguments) {
    return Each(
        sql, [](const Row&) { return absl::OkStatus(); }, arguments...);
  }
  // Calls row(Row), which returns a Status, for each row of the result. It does
  // not run the same statement.
  template <typename Body, typename... Arguments>
  absl::Status Each(std::string_view sql, const Body& body,
                    const Arguments&... arguments) {
    ASSIGN_OR_RETURN(sqlite3_stmt * statement, Prepared(sql));
    absl::Status status = Bind(statement, arguments...);
    while (status.ok()) {
      const int code = sqlite3_step(statement);
      if (code == SQLITE_DONE) break;
      status = code == SQLITE_ROW ? body(Row(statement)) : Error(code);
    }
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return status;
  }
  // What parse(Row), which returns a StatusOr, makes of each row.
  template <typename Parse, typename... Arguments>
  auto All(std::string_view sql, const Parse& parse,
           const Arguments&... arguments) {
    using T = typename decltype(parse(std::declval<Row>()))::value_type;
    std::vector<T> all;
    const absl::Status status = Each(
        sql,
        [&](const Row& row) -> absl::Status {
          ASSIGN_OR_RETURN(T value, parse(row));
          all.push_back(std::move(value));
          return absl::OkStatus();
        },
        arguments...);
    return status.ok() ? absl::StatusOr<std::vector<T>>(std::move(all))
                       : absl::StatusOr<std::vector<T>>(status);
  }
  // The number that a statement gives in its only row.
  template <typename... Arguments>
  absl::StatusOr<int64_t> Number(std::string_view sql,
                                 const Arguments&... arguments) {
    ASSIGN_OR_RETURN(const std::vector<uint64_t> rows,
                     All(sql, NumberOf, arguments...));
    return rows.empty() ? 0 : static_cast<int64_t>(rows.front());
  }
  // Several statements, once.
  absl::Status Execute(const std::string& sql) {
    const int code =
        sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr);
    return code == SQLITE_OK ? absl::OkStatus() : Error(code);
  }
  // Runs `body`, which returns a Status or StatusOr, between `begin` and
  // COMMIT; takes all back where it fails.
  template <typename Body>
  auto Transaction(std::string_view begin, const Body& body)
      -> decltype(body()) {
    RETURN_IF_ERROR(Run(begin));
    auto result = body();
    const absl::Status status =
        StatusOf(result).ok() ? Run("COMMIT") : StatusOf(result);
    if (status.ok()) return result;
    // SQLite itself has rolled back after some errors.
    if (sqlite3_get_autocommit(database_.get()) == 0)
      sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    return status;
  }
  int64_t LastRow() const { return sqlite3_last_insert_rowid(database_.get()); }

 private:
  explicit Connection(const std::string& path) : path_(path) {}

  absl::Status Start(bool reader, bool sync) {
    sqlite3* database = nullptr;
    const int code = sqlite3_open_v2(
        path_.empty() ? ":memory:" : path_.c_str(), &database,
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
            (reader ? 0 : SQLITE_OPEN_CREATE),
        nullptr);
    database_.reset(database);
    if (code != SQLITE_OK) return Error(code);
    // The file may come from anywhere.
    sqlite3_db_config(database, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    sqlite3_db_config(database, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
    sqlite3_db_config(database, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
    sqlite3_db_config(database, SQLITE_DBCONFIG_ENABLE_VIEW, 0, nullptr);
    sqlite3_limit(database, SQLITE_LIMIT_LENGTH, kMaxValueBytes);
    sqlite3_busy_timeout(database, kBusyMilliseconds);
    RETURN_IF_ERROR(
        Execute(StrCat("PRAGMA foreign_keys = ON;"
                       "PRAGMA cell_size_check = ON;"
                       "PRAGMA secure_delete = OFF;"
                       "PRAGMA mmap_size = 0;"
                       "PRAGMA synchronous = ",
                       sync ? "FULL" : "OFF", ";PRAGMA cache_size = -",
                       reader ? kReaderCacheKib : kWriterCacheKib)));
    if (reader) return Execute("PRAGMA query_only = ON");
    RETURN_IF_ERROR(Migrate());
    return Execute(
        StrCat("PRAGMA journal_mode = WAL;"
               "PRAGMA journal_size_limit = ",
               kMaxIdleWalBytes));
  }

  absl::Status Migrate() {
    ASSIGN_OR_RETURN(const int64_t version, Number("PRAGMA user_version"));
    ASSIGN_OR_RETURN(const int64_t application,
                     Number("PRAGMA application_id"));
    ASSIGN_OR_RETURN(const int64_t tables,
                     Number("SELECT count(*) FROM sqlite_schema"));
    if (tables != 0 && (application != kApplicationId || version < 1))
      return DataLoss("the file ", path_, " is no catalogue of zipllm's");
    if (version > kSchemaVersion) {
      return Unimplemented("the catalogue ", path_, " has schema version ",
                           version, "; this zipllm knows version ",
                           kSchemaVersion,
                           ": use a newer zipllm, or delete the file (it is "
                           "made anew)");
    }
    if (version == kSchemaVersion) return absl::OkStatus();
    return Transaction("BEGIN IMMEDIATE", [this]() -> absl::Status {
      ASSIGN_OR_RETURN(const int64_t from, Number("PRAGMA user_version"));
      for (int64_t i = from; i < kSchemaVersion; ++i) {
        RETURN_IF_ERROR(Execute(kMigrations[static_cast<size_t>(i)]));
      }
      return Execute(StrCat("PRAGMA application_id = ", kApplicationId,
                            "; PRAGMA user_version = ", kSchemaVersion));
    });
  }

  absl::StatusOr<sqlite3_stmt*> Prepared(std::string_view sql) {
    auto& statement = statements_[sql];
    if (statement == nullptr) {
      sqlite3_stmt* made = nullptr;
      const int code = sqlite3_prepare_v3(
          database_.get(), sql.data(), static_cast<int>(sql.size()),
          SQLITE_PREPARE_PERSISTENT, &made, nullptr);
      if (code != SQLITE_OK) return Error(code);
      statement.reset(made);
    }
    return statement.get();
  }

  template <typename... Arguments>
  absl::Status Bind(sqlite3_stmt* statement, const Arguments&... arguments) {
    int column = 0;
    int code = SQLITE_OK;
    [[maybe_unused]] const auto bind = [&](const auto& value) {
      if (code == SQLITE_OK) code = BindOne(statement, ++column, value);
    };
    (bind(arguments), ...);
    return code == SQLITE_OK ? absl::OkStatus() : Error(code);
  }
  static int BindOne(sqlite3_stmt* statement, int column, uint64_t value) {
    return sqlite3_bind_int64(statement, column, static_cast<int64_t>(value));
  }
  static int BindOne(sqlite3_stmt* statement, int column, ByteSpan value) {
    // A null pointer would be NULL.
    return sqlite3_bind_blob64(
        statement, column,
        value.empty() ? "" : static_cast<const void*>(value.data()),
        value.size(), SQLITE_STATIC);
  }
  static int BindOne(sqlite3_stmt* statement, int column,
                     const std::string& value) {
    return sqlite3_bind_text64(statement, column, value.data(), value.size(),
                               SQLITE_STATIC, SQLITE_UTF8);
  }

  absl::Status Error(int code) const {
    const std::string problem = StrCat(
        "catalogue ", path_, ": ",
        database_ == nullptr ? "no memory" : sqlite3_errmsg(database_.get()));
    switch (code & 0xff) {
      case SQLITE_CORRUPT:
      case SQLITE_NOTADB:
      case SQLITE_CONSTRAINT:
      case SQLITE_MISMATCH:
      case SQLITE_ERROR:  // the statements are right: the schema is not
        return DataLoss(problem);
      case SQLITE_BUSY:
      case SQLITE_LOCKED:
        return absl::UnavailableError(
            problem + ": another process is writing for long; try again");
      case SQLITE_FULL:
      case SQLITE_NOMEM:
      case SQLITE_TOOBIG:
        return ResourceExhausted(problem);
      default:
        break;
    }
    const int error =
        database_ == nullptr ? 0 : sqlite3_system_errno(database_.get());
    if (error != 0) return ErrnoStatus(error, problem);
    return absl::UnavailableError(problem);
  }

  const std::string path_;  // empty: in memory
  std::unique_ptr<sqlite3, CloseDatabase> database_;
  std::map<std::string_view, std::unique_ptr<sqlite3_stmt, FinalizeStatement>>
      statements_;
};

// Which file is at a path; a link is none. 0, 0: none.
std::pair<uint64_t, uint64_t> FileAt(const std::string& path) {
  struct stat info = {};
  if (lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return {};
  return {info.st_dev, info.st_ino};
}

// Keeps other processes from opening or replacing the file meanwhile.
absl::StatusOr<UniqueFd> LockFile(const std::string& path) {
  const std::string name = path + ".lock";
  UniqueFd fd(
      open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
  if (!fd.ok()) return ErrnoStatus(errno, "open " + name);
  while (flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return ErrnoStatus(errno, "lock " + name);
  }
  return fd;
}

// The file last: what stands beside it belongs to it.
absl::Status RemoveFile(const std::string& path) {
  for (const char* suffix : {"-wal", "-shm", "-journal", ""}) {
    if (unlink((path + suffix).c_str()) != 0 && errno != ENOENT)
      return ErrnoStatus(errno, "remove " + path + suffix);
  }
  return absl::OkStatus();
}

// Of a tensor that was quantized to 2 bits a tenth of the bits differ, of a
// checkpoint 100 steps later too: 16 bands of 24 bits find 9 in 10 of those, 8
// of 32 less than half. Of unrelated ones a band finds one in 2^24.
using Bands = std::array<uint64_t, 16>;
constexpr uint64_t kBandBits = 24;

// The keys of a sketch's bands: band b has the bits 21 i + b.
Bands BandsOf(const TensorSketch& sketch) {
  Bands bands;
  for (uint64_t b = 0; b < bands.size(); ++b) {
    uint64_t bits = 0;
    for (uint64_t i = 0; i < kBandBits; ++i) {
      const uint64_t at = 21 * i + b;
      bits |= (sketch.bits[at / 64] >> (at % 64) & 1) << i;
    }
    bands[b] = (sketch.log2_elements * bands.size() + b) << kBandBits | bits;
  }
  return bands;
}

uint32_t Distance(const TensorSketch& a, const TensorSketch& b) {
  int distance = 0;
  for (size_t i = 0; i < a.bits.size(); ++i)
    distance += std::popcount(a.bits[i] ^ b.bits[i]);
  return static_cast<uint32_t>(distance);
}

// Of sketches joined with digests.
#define ZIPLLM_SKETCH_COLUMNS "sha256, log2_elements, bits"
absl::StatusOr<TensorSketch> SketchOf(const Row& row) {
  TensorSketch sketch;
  RETURN_IF_ERROR(row.Array(0, &sketch.object));
  sketch.log2_elements = row.Byte(1);
  RETURN_IF_ERROR(row.Array(2, &sketch.bits));
  return sketch;
}

absl::StatusOr<Sha256Digest> DigestOf(const Row& row) {
  Sha256Digest digest;
  RETURN_IF_ERROR(row.Array(0, &digest));
  return digest;
}

absl::StatusOr<std::string> TextOf(const Row& row) { return row.Text(0); }

#define ZIPLLM_OBJECT_COLUMNS                                        \
  "sha256, length, coded_bytes, depth, dtype, shape, name, format, " \
  "sources, saved_delta, saved_derived, saved_entropy"

absl::StatusOr<ObjectRecord> ObjectOf(const Row& row) {
  ObjectRecord object;
  RETURN_IF_ERROR(row.Array(0, &object.sha256));
  object.length = row.Number(1);
  object.coded_bytes = row.Number(2);
  object.depth = row.Byte(3);
  object.dtype = static_cast<DType>(row.Byte(4));
  RETURN_IF_ERROR(row.Vector(5, &object.shape));
  object.name = row.Text(6);
  object.format = row.Text(7);
  RETURN_IF_ERROR(row.Vector(8, &object.sources));
  object.saved_delta = row.Number(9);
  object.saved_derived = row.Number(10);
  object.saved_entropy = row.Number(11);
  return object;
}

// The number of an object, which it is given where it has none.
absl::StatusOr<uint64_t> NumberOfDigest(Connection& connection,
                                        const Sha256Digest& object) {
  ASSIGN_OR_RETURN(const std::vector<uint64_t> known,
                   connection.All("SELECT digest FROM digests WHERE sha256 = ?",
                                  NumberOf, ByteSpan(object)));
  if (!known.empty()) return known.front();
  RETURN_IF_ERROR(connection.Run("INSERT INTO digests (sha256) VALUES (?)",
                                 ByteSpan(object)));
  return static_cast<uint64_t>(connection.LastRow());
}

// Takes the numbers away from those objects that need none any more.
absl::Status ForgetDigests(Connection& connection,
                           const std::vector<uint64_t>& digests) {
  for (const uint64_t digest : digests) {
    RETURN_IF_ERROR(connection.Run(
        "DELETE FROM digests WHERE digest = ?1 "
        "AND NOT EXISTS (SELECT 1 FROM sketches WHERE object = ?1) "
        "AND NOT EXISTS (SELECT 1 FROM manifest_objects WHERE object = ?1)",
        digest));
  }
  return absl::OkStatus();
}

absl::Status DeletePack(Connection& connection, const std::string& id) {
  std::vector<uint64_t> digests;
  std::vector<std::pair<uint64_t, uint64_t>> bands;  // keys, sketches
  RETURN_IF_ERROR(connection.Each(
      "SELECT " ZIPLLM_SKETCH_COLUMNS
      ", sketch, object FROM sketches "
      "JOIN digests ON digest = object "
      "WHERE pack = (SELECT pack FROM packs WHERE id = ?)",
      [&](const Row& row) -> absl::Status {
        ASSIGN_OR_RETURN(const TensorSketch sketch, SketchOf(row));
        for (const uint64_t key : BandsOf(sketch))
          bands.emplace_back(key, row.Number(3));
        digests.push_back(row.Number(4));
        return absl::OkStatus();
      },
      id));
  std::ranges::sort(bands);
  for (const auto& [key, sketch] : bands) {
    RETURN_IF_ERROR(connection.Run(
        "DELETE FROM bands WHERE key = ? AND sketch = ?", key, sketch));
  }
  RETURN_IF_ERROR(connection.Run("DELETE FROM packs WHERE id = ?", id));
  return ForgetDigests(connection, digests);
}

absl::Status DeleteManifest(Connection& connection,
                            const Sha256Digest& manifest) {
  ASSIGN_OR_RETURN(
      const std::vector<uint64_t> digests,
      connection.All("SELECT object FROM manifest_objects "
                     "JOIN manifests USING (manifest) WHERE sha256 = ?",
                     NumberOf, ByteSpan(manifest)));
  RETURN_IF_ERROR(connection.Run("DELETE FROM manifests WHERE sha256 = ?",
                                 ByteSpan(manifest)));
  return ForgetDigests(connection, digests);
}

absl::StatusOr<bool> Knows(Connection& connection,
                           const Sha256Digest& manifest) {
  ASSIGN_OR_RETURN(
      const int64_t count,
      connection.Number("SELECT count(*) FROM manifests WHERE sha256 = ?",
                        ByteSpan(manifest)));
  return count != 0;
}

absl::Status InsertManifest(Connection& connection,
                            const Sha256Digest& manifest,
                            const std::vector<Sha256Digest>& objects) {
  ASSIGN_OR_RETURN(const bool known, Knows(connection, manifest));
  if (known) return absl::OkStatus();
  RETURN_IF_ERROR(connection.Run("INSERT INTO manifests (sha256) VALUES (?)",
                                 ByteSpan(manifest)));
  const auto number = static_cast<uint64_t>(connection.LastRow());
  for (const Sha256Digest& object : objects) {
    ASSIGN_OR_RETURN(const uint64_t digest, NumberOfDigest(connection, object));
    RETURN_IF_ERROR(connection.Run(
        "INSERT OR IGNORE INTO manifest_objects (object, manifest) "
        "VALUES (?, ?)",
        digest, number));
  }
  return absl::OkStatus();
}

absl::Status InsertPack(Connection& connection, const PackRecord& pack) {
  RETURN_IF_ERROR(connection.Run("INSERT INTO packs (id, bytes) VALUES (?, ?)",
                                 pack.id, pack.bytes));
  const auto number = static_cast<uint64_t>(connection.LastRow());
  for (const auto& [sha256, depth] : pack.needs) {
    RETURN_IF_ERROR(
        connection.Run("INSERT OR IGNORE INTO needs (pack, sha256, depth) "
                       "VALUES (?, ?, ?)",
                       number, ByteSpan(sha256), uint64_t{depth}));
  }
  for (const ObjectRecord& object : pack.objects) {
    RETURN_IF_ERROR(connection.Run(
        "INSERT OR IGNORE INTO objects (pack, " ZIPLLM_OBJECT_COLUMNS
        ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        number, ByteSpan(object.sha256), object.length, object.coded_bytes,
        uint64_t{object.depth}, static_cast<uint64_t>(object.dtype),
        BytesOf(object.shape), AsBytes(object.name), AsBytes(object.format),
        BytesOf(object.sources), object.saved_delta, object.saved_derived,
        object.saved_entropy));
  }
  std::vector<std::pair<uint64_t, uint64_t>> bands;  // keys, sketches
  for (const TensorSketch& sketch : pack.sketches) {
    ASSIGN_OR_RETURN(const uint64_t digest,
                     NumberOfDigest(connection, sketch.object));
    RETURN_IF_ERROR(connection.Run(
        "INSERT INTO sketches (pack, object, depth, log2_elements, bits) "
        "VALUES (?1, ?2, (SELECT depth FROM objects WHERE sha256 = ?3 "
        "AND pack = ?1), ?4, ?5)",
        number, digest, ByteSpan(sketch.object), uint64_t{sketch.log2_elements},
        BytesOf(sketch.bits)));
    const auto row = static_cast<uint64_t>(connection.LastRow());
    for (const uint64_t key : BandsOf(sketch)) bands.emplace_back(key, row);
  }
  // In order: of a large index each page is touched once.
  std::ranges::sort(bands);
  for (const auto& [key, sketch] : bands) {
    RETURN_IF_ERROR(connection.Run(
        "INSERT INTO bands (key, sketch) VALUES (?, ?)", key, sketch));
  }
  for (const auto& [manifest, objects] : pack.manifests) {
    RETURN_IF_ERROR(InsertManifest(connection, manifest, objects));
  }
  return absl::OkStatus();
}

// Numbers of sketches that have a band of `sketch`, and how many of its bands:
// of those that have a band, the first and the last `most` count.
absl::StatusOr<std::map<uint64_t, int>> SharedBands(Connection& connection,
                                                    const TensorSketch& sketch,
                                                    uint64_t most) {
  std::map<uint64_t, int> shared;
  for (const uint64_t key : BandsOf(sketch)) {
    ASSIGN_OR_RETURN(const std::vector<uint64_t> first,
                     connection.All("SELECT sketch FROM bands WHERE key = ? "
                                    "ORDER BY sketch LIMIT ?",
                                    NumberOf, key, most));
    for (const uint64_t number : first) ++shared[number];
    if (first.empty() || first.size() < most) continue;
    ASSIGN_OR_RETURN(
        const std::vector<uint64_t> last,
        connection.All("SELECT sketch FROM bands WHERE key = ? "
                       "AND sketch > ? ORDER BY sketch DESC LIMIT ?",
                       NumberOf, key, first.back(), most));
    for (const uint64_t number : last) ++shared[number];
  }
  return shared;
}

absl::StatusOr<std::vector<Relative>> FindSimilar(Connection& connection,
                                                  const TensorSketch& sketch,
                                                  const SimilarLimits& limits) {
  ASSIGN_OR_RETURN(const auto shared,
                   SharedBands(connection, sketch,
                               std::min<size_t>(limits.looked_at, INT64_MAX)));
  std::vector<std::pair<int, uint64_t>> order;  // less bands, sketch
  order.reserve(shared.size());
  for (const auto& [number, bands] : shared) order.emplace_back(-bands, number);
  std::ranges::sort(order);
  if (order.size() > limits.looked_at) order.resize(limits.looked_at);

  // By the number of the object: one for all copies of it.
  std::map<uint64_t, Relative> found;
  const auto add = [&](const Row& row) -> absl::Status {
    Relative relative;
    TensorSketch other;
    RETURN_IF_ERROR(row.Array(0, &relative.object));
    RETURN_IF_ERROR(row.Array(1, &other.bits));
    relative.distance = Distance(sketch, other);
    if (relative.object != sketch.object &&
        relative.distance <= limits.distance)
      found.emplace(row.Number(2), std::move(relative));
    return absl::OkStatus();
  };
  for (const auto& [bands, number] : order) {
    RETURN_IF_ERROR(connection.Each(
        "SELECT sha256, bits, object FROM sketches JOIN digests "
        "ON digest = object WHERE sketch = ? AND depth < ?",
        add, number, limits.depth));
  }
  std::vector<std::pair<Relative, uint64_t>> relatives;
  for (auto& [digest, relative] : found)
    relatives.emplace_back(std::move(relative), digest);
  std::ranges::sort(relatives, {}, [](const auto& relative) {
    return std::tie(relative.first.distance, relative.first.object);
  });
  if (relatives.size() > limits.nearest) relatives.resize(limits.nearest);
  std::vector<Relative> similar;
  for (auto& [relative, digest] : relatives) {
    ASSIGN_OR_RETURN(
        relative.users,
        connection.All("SELECT sha256 FROM manifest_objects "
                       "JOIN manifests USING (manifest) WHERE object = ? "
                       "ORDER BY manifest LIMIT ?",
                       DigestOf, digest,
                       uint64_t{std::min<size_t>(limits.users, INT64_MAX)}));
    similar.push_back(std::move(relative));
  }
  return similar;
}

class SqliteCatalogue : public Catalogue {
 public:
  SqliteCatalogue(const std::string& path, bool sync)
      : path_(path), sync_(sync) {}

  // Opens the file, which is `damaged` or perhaps so.
  absl::Status OpenWriter(std::pair<uint64_t, uint64_t> damaged = {}) {
    const std::lock_guard lock(writer_mutex_);
    UniqueFd file_lock;
    if (!path_.empty()) {
      ASSIGN_OR_RETURN(file_lock, LockFile(path_));
      struct stat info = {};
      const bool there = lstat(path_.c_str(), &info) == 0;
      if (there && (FileAt(path_) == damaged || !S_ISREG(info.st_mode)))
        RETURN_IF_ERROR(RemoveFile(path_));
    }
    auto writer = Connection::Open(path_, /*reader=*/false, sync_);
    if (!path_.empty() && absl::IsDataLoss(writer.status())) {
      RETURN_IF_ERROR(RemoveFile(path_));
      writer = Connection::Open(path_, /*reader=*/false, sync_);
    }
    if (!writer.ok()) return writer.status();
    const std::lock_guard readers_lock(readers_mutex_);
    writer_ = *std::move(writer);
    file_ = FileAt(path_);
    idle_readers_.clear();
    damaged_ = false;
    return absl::OkStatus();
  }

  bool damaged() const override { return damaged_; }

  absl::Status Reset() override {
    const bool wanted = !damaged_;
    const std::lock_guard resetting(reset_mutex_);
    // Another thread has done it.
    if (!wanted && !damaged_) return absl::OkStatus();
    std::pair<uint64_t, uint64_t> damaged;
    {
      const std::lock_guard lock(writer_mutex_);
      damaged = file_;
    }
    return OpenWriter(damaged);
  }

  absl::Status Check() override {
    return Read([](Connection& connection) -> absl::Status {
      RETURN_IF_ERROR(connection.Each(
          "PRAGMA integrity_check(1)", [](const Row& row) -> absl::Status {
            const std::string answer = row.Text(0);
            if (answer == "ok") return absl::OkStatus();
            return DataLoss("the catalogue is damaged: ", answer);
          }));
      return connection.Each(
          "PRAGMA foreign_key_check", [](const Row& row) -> absl::Status {
            return DataLoss("the catalogue is damaged: table ", row.Text(0),
                            " refers to nothing");
          });
    });
  }

  absl::Status AddPack(const PackRecord& pack) override {
    return Write([&pack](Connection& connection) -> absl::Status {
      RETURN_IF_ERROR(DeletePack(connection, pack.id));
      return InsertPack(connection, pack);
    });
  }

  absl::Status RemovePack(const std::string& id) override {
    return Write(
        [&id](Connection& connection) { return DeletePack(connection, id); });
  }

  absl::Status Rebuild(
      const std::function<absl::StatusOr<std::optional<PackRecord>>()>& next)
      override {
    absl::Status failed;  // of next(): this says nothing of the catalogue
    const absl::Status status =
        Write([&](Connection& connection) -> absl::Status {
          for (const std::string_view forget :
               {"DELETE FROM bands", "DELETE FROM sketches",
                "DELETE FROM objects", "DELETE FROM needs", "DELETE FROM packs",
                "DELETE FROM manifest_objects", "DELETE FROM manifests",
                "DELETE FROM digests"}) {
            RETURN_IF_ERROR(connection.Run(forget));
          }
          while (true) {
            const absl::StatusOr<std::optional<PackRecord>> pack = next();
            if (!pack.ok()) {
              failed = pack.status();
              return absl::CancelledError();
            }
            if (!pack->has_value()) return absl::OkStatus();
            RETURN_IF_ERROR(DeletePack(connection, (*pack)->id));
            RETURN_IF_ERROR(InsertPack(connection, **pack));
          }
        });
    return failed.ok() ? status : failed;
  }

  absl::StatusOr<uint64_t> Bytes() override {
    return Read([](Connection& connection) -> absl::StatusOr<uint64_t> {
      uint64_t bytes = 0;
      RETURN_IF_ERROR(connection.Each(
          "SELECT page_count * page_size FROM pragma_page_count(), "
          "pragma_page_size()",
          [&bytes](const Row& row) {
            bytes = row.Number(0);
            return absl::OkStatus();
          }));
      return bytes;
    });
  }

  absl::StatusOr<std::vector<std::string>> Packs() override {
    return Read([](Connection& connection) {
      return connection.All("SELECT id FROM packs ORDER BY id", TextOf);
    });
  }

  absl::StatusOr<std::optional<PackRecord>> FindPack(
      const std::string& id) override {
    return Read([&id](Connection& connection)
                    -> absl::StatusOr<std::optional<PackRecord>> {
      std::optional<PackRecord> found;
      uint64_t number = 0;
      RETURN_IF_ERROR(connection.Each(
          "SELECT pack, bytes FROM packs WHERE id = ?",
          [&](const Row& row) {
            number = row.Number(0);
            found = PackRecord{id, row.Number(1), {}, {}, {}};
            return absl::OkStatus();
          },
          id));
      if (!found.has_value()) return found;
      const auto need = [](const Row& row)
          -> absl::StatusOr<std::pair<Sha256Digest, uint8_t>> {
        ASSIGN_OR_RETURN(const Sha256Digest sha256, DigestOf(row));
        return std::pair(sha256, row.Byte(1));
      };
      ASSIGN_OR_RETURN(
          found->needs,
          connection.All("SELECT sha256, depth FROM needs WHERE pack = ? "
                         "ORDER BY sha256",
                         need, number));
      ASSIGN_OR_RETURN(
          found->objects,
          connection.All("SELECT " ZIPLLM_OBJECT_COLUMNS
                         " FROM objects WHERE pack = ? ORDER BY object",
                         ObjectOf, number));
      ASSIGN_OR_RETURN(
          found->sketches,
          connection.All("SELECT " ZIPLLM_SKETCH_COLUMNS
                         " FROM sketches JOIN digests ON digest = object "
                         "WHERE pack = ? ORDER BY sketch",
                         SketchOf, number));
      return found;
    });
  }

  absl::StatusOr<std::vector<ObjectPlace>> Find(
      const Sha256Digest& object) override {
    const auto place = [](const Row& row) -> absl::StatusOr<ObjectPlace> {
      return ObjectPlace{row.Text(0), row.Number(1), row.Number(2),
                         row.Byte(3)};
    };
    return Read([&](Connection& connection) {
      return connection.All(
          "SELECT id, length, coded_bytes, depth "
          "FROM objects JOIN packs USING (pack) WHERE sha256 = ? "
          "ORDER BY depth, pack",
          place, ByteSpan(object));
    });
  }

  absl::StatusOr<std::optional<ObjectRecord>> Describe(
      const Sha256Digest& object) override {
    return Read([&object](Connection& connection)
                    -> absl::StatusOr<std::optional<ObjectRecord>> {
      ASSIGN_OR_RETURN(
          std::vector<ObjectRecord> found,
          connection.All(
              "SELECT " ZIPLLM_OBJECT_COLUMNS
              " FROM objects WHERE sha256 = ? ORDER BY depth, pack LIMIT 1",
              ObjectOf, ByteSpan(object)));
      if (found.empty()) return std::nullopt;
      return std::move(found.front());
    });
  }

  absl::Status AddManifest(const Sha256Digest& manifest,
                           const std::vector<Sha256Digest>& objects) override {
    return Write([&](Connection& connection) {
      return InsertManifest(connection, manifest, objects);
    });
  }

  absl::StatusOr<bool> HasManifest(const Sha256Digest& manifest) override {
    return Read([&manifest](Connection& connection) {
      return Knows(connection, manifest);
    });
  }

  absl::Status RemoveManifest(const Sha256Digest& manifest) override {
    return Write([&](Connection& connection) {
      return DeleteManifest(connection, manifest);
    });
  }

  absl::StatusOr<std::vector<Sha256Digest>> UsersOf(const Sha256Digest& object,
                                                    size_t limit) override {
    return Read([&](Connection& connection) {
      return connection.All(
          "SELECT manifests.sha256 FROM digests "
          "JOIN manifest_objects ON object = digest "
          "JOIN manifests USING (manifest) "
          "WHERE digests.sha256 = ? ORDER BY manifest LIMIT ?",
          DigestOf, ByteSpan(object),
          uint64_t{std::min<size_t>(limit, INT64_MAX)});
    });
  }

  absl::StatusOr<std::vector<Relative>> Similar(
      const TensorSketch& sketch, const SimilarLimits& limits) override {
    return Read([&](Connection& connection) {
      return FindSimilar(connection, sketch, limits);
    });
  }

  absl::StatusOr<std::vector<TensorSketch>> SketchesOf(
      const std::vector<Sha256Digest>& objects) override {
    return Read([&objects](Connection& connection)
                    -> absl::StatusOr<std::vector<TensorSketch>> {
      std::vector<TensorSketch> sketches;
      for (const Sha256Digest& object : objects) {
        ASSIGN_OR_RETURN(const std::vector<TensorSketch> found,
                         connection.All("SELECT " ZIPLLM_SKETCH_COLUMNS
                                        " FROM digests JOIN sketches "
                                        "ON object = digest WHERE sha256 = ? "
                                        "ORDER BY sketch LIMIT 1",
                                        SketchOf, ByteSpan(object)));
        sketches.insert(sketches.end(), found.begin(), found.end());
      }
      return sketches;
    });
  }

 private:
  template <typename Body>
  absl::Status Write(const Body& body) {
    const std::lock_guard lock(writer_mutex_);
    if (FileAt(path_) != file_) return Noted(Replaced());
    return Noted(writer_->Transaction("BEGIN IMMEDIATE",
                                      [&] { return body(*writer_); }));
  }

  // Status or StatusOr; remembers damage.
  template <typename Result>
  Result Noted(Result result) {
    if (absl::IsDataLoss(StatusOf(result))) damaged_ = true;
    return result;
  }

  // `body`, which returns a Status or StatusOr, sees one state of the
  // catalogue.
  template <typename Body>
  auto Read(const Body& body) -> decltype(body(std::declval<Connection&>())) {
    if (path_.empty()) {
      const std::lock_guard lock(writer_mutex_);
      return Noted(body(*writer_));
    }
    std::pair<uint64_t, uint64_t> file;
    std::unique_ptr<Connection> reader;
    {
      std::unique_lock lock(readers_mutex_);
      reader_is_back_.wait(lock,
                           [this] { return busy_readers_ < kMaxReaders; });
      ++busy_readers_;
      file = file_;
      if (!idle_readers_.empty()) {
        reader = std::move(idle_readers_.back());
        idle_readers_.pop_back();
      }
    }
    absl::Status opened;
    if (reader == nullptr) opened = OpenReader(file, &reader);
    auto result = opened.ok() ? reader->Transaction(
                                    "BEGIN", [&] { return body(*reader); })
                              : decltype(body(*reader))(opened);
    {
      const std::lock_guard lock(readers_mutex_);
      --busy_readers_;
      // Not one of a file that was replaced meanwhile.
      if (StatusOf(result).ok() && file == file_)
        idle_readers_.push_back(std::move(reader));
    }
    reader_is_back_.notify_one();
    return Noted(std::move(result));
  }

  absl::Status OpenReader(std::pair<uint64_t, uint64_t> file,
                          std::unique_ptr<Connection>* reader) {
    ASSIGN_OR_RETURN(const UniqueFd lock, LockFile(path_));
    if (FileAt(path_) != file) return Replaced();
    ASSIGN_OR_RETURN(*reader, Connection::Open(path_, /*reader=*/true, sync_));
    return absl::OkStatus();
  }

  absl::Status Replaced() const {
    return DataLoss("another process has replaced the catalogue ", path_);
  }

  const std::string path_;  // empty: in memory
  const bool sync_;

  std::atomic<bool> damaged_ = false;

  std::mutex reset_mutex_;  // taken before writer_mutex_
  std::mutex writer_mutex_;
  std::unique_ptr<Connection> writer_;

  std::mutex readers_mutex_;  // taken after writer_mutex_
  std::condition_variable reader_is_back_;
  std::vector<std::unique_ptr<Connection>> idle_readers_;
  size_t busy_readers_ = 0;
  // Which file is open; written with both mutexes held.
  std::pair<uint64_t, uint64_t> file_;
};

#undef ZIPLLM_OBJECT_COLUMNS
#undef ZIPLLM_SKETCH_COLUMNS

}  // namespace

absl::StatusOr<std::unique_ptr<Catalogue>> Catalogue::Open(
    const std::string& path, bool sync) {
  auto catalogue = std::make_unique<SqliteCatalogue>(path, sync);
  RETURN_IF_ERROR(catalogue->OpenWriter());
  return catalogue;
}

absl::StatusOr<std::unique_ptr<Catalogue>> Catalogue::OpenInMemory() {
  return Open("", /*sync=*/false);
}

}  // namespace zipllm::store
