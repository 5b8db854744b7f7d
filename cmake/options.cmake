# Build options and the compile flags that every target of the project shares.
option(ZIPLLM_BUILD_TESTS "Build the unit tests" ${PROJECT_IS_TOP_LEVEL})
option(ZIPLLM_BUILD_BENCH "Build the benchmarks" ${PROJECT_IS_TOP_LEVEL})
option(ZIPLLM_BUILD_FUZZERS "Build the libFuzzer targets (clang only)" OFF)
option(ZIPLLM_WERROR "Treat warnings as errors" ON)
set(ZIPLLM_SANITIZE "" CACHE STRING "Sanitizers for all targets: address;undefined, memory, thread")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(ZIPLLM_CCACHE ccache)
if(ZIPLLM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers are cached only where their times do not count.
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros ${ZIPLLM_CCACHE})
endif()

add_library(zipllm_options INTERFACE)
target_compile_options(zipllm_options INTERFACE -Wall -Wextra -Wshadow -Wconversion
                       -Wno-sign-conversion -Wnon-virtual-dtor -Woverloaded-virtual
                       -ffp-contract=off
                       # False alarms of gcc 12 on std::string (gcc bug 105651); which of them, and
                       # whether any, changes with the length of the path of this tree.
                       "$<$<CXX_COMPILER_ID:GNU>:-Wno-restrict;-Wno-array-bounds;-Wno-stringop-overflow;-Wno-stringop-overread>"
                       $<$<BOOL:${ZIPLLM_WERROR}>:-Werror>)
if(ZIPLLM_SANITIZE)
  list(JOIN ZIPLLM_SANITIZE "," sanitizers)
  add_compile_options(-fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${sanitizers})
endif()
if(ZIPLLM_BUILD_FUZZERS)
  add_compile_options(-fsanitize=fuzzer-no-link)  # the coverage that guides libFuzzer
endif()

# Saves gcc about a second a file. Every file still includes what it uses: clang, whose precompiled
# headers gain little and are refused when a cache brings them back, sees to that.
function(zipllm_precompile target)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    return()
  elseif(target STREQUAL zipllm_base)
    target_precompile_headers(zipllm_base PRIVATE <absl/status/statusor.h> <algorithm> <array>
                              <functional> <map> <memory> <optional> <span> <string> <vector>)
  elseif(NOT target MATCHES "kernels|quantizers|mount")  # are small, or have other definitions
    target_precompile_headers(${target} REUSE_FROM zipllm_base)
  endif()
endfunction()
