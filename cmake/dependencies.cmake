# Libraries from the distribution; README.md names the Debian packages.
find_package(absl REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(Threads REQUIRED)
find_package(LibLZMA REQUIRED)
find_package(SQLite3 3.37 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd>=1.5)
pkg_check_modules(DIVSUFSORT REQUIRED IMPORTED_TARGET libdivsufsort>=2.0)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash>=0.8)  # its header only
find_package(nlohmann_json 3.11 REQUIRED)  # headers only
