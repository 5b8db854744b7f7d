# How programs are linked.

# Links an executable with `library`, a static or object library of the project, and with the
# static archives of what that needs. Loading twenty shared libraries takes about 4 ms, longer
# than many a run of the command; libc stays shared, and libdivsufsort, of which Debian has no
# archive. Falls back to shared libraries where another archive is missing, and under sanitizers.
option(ZIPLLM_STATIC_COMMAND "Link the command with static archives, for a fast start" ON)

function(zipllm_find_archives result)
  pkg_check_modules(ZIPLLM_ABSL QUIET absl_statusor)
  set(archives)
  set(names ${ZIPLLM_ABSL_LIBRARIES})
  list(FILTER names INCLUDE REGEX "^absl_")
  list(APPEND names crypto zstd lzma sqlite3)
  if(TARGET zipllm_mount)
    list(APPEND names fuse3)
  endif()
  foreach(name ${names})
    find_library(archive NAMES lib${name}.a NO_CACHE)
    if(NOT archive)
      message(STATUS "No lib${name}.a: the command is linked with shared libraries")
      set(${result} "" PARENT_SCOPE)
      return()
    endif()
    list(APPEND archives ${archive})
    unset(archive)
  endforeach()
  set(${result} -Wl,--start-group ${archives} -Wl,--end-group PARENT_SCOPE)
endfunction()

function(zipllm_link_command target library)
  set(archives)
  if(ZIPLLM_STATIC_COMMAND AND NOT ZIPLLM_SANITIZE)
    zipllm_find_archives(archives)
  endif()
  if(NOT archives)
    target_link_libraries(${target} PRIVATE ${library})
    return()
  endif()
  # The library's usage requirements without what it links: CMake 3.25 has no COMPILE_ONLY.
  foreach(property INCLUDE_DIRECTORIES COMPILE_DEFINITIONS COMPILE_OPTIONS)
    string(TOLOWER ${property} command)
    cmake_language(CALL target_${command} ${target} PRIVATE
                   $<TARGET_PROPERTY:${library},INTERFACE_${property}>)
  endforeach()
  add_dependencies(${target} ${library} zipllm_lib_static)
  target_link_libraries(${target} PRIVATE
    $<TARGET_FILE:${library}> $<TARGET_FILE:zipllm_lib_static> ${archives} PkgConfig::DIVSUFSORT
    Threads::Threads)
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS
               $<TARGET_FILE:${library}> $<TARGET_FILE:zipllm_lib_static>)
  target_link_options(${target} PRIVATE -static-libstdc++ -static-libgcc)
endfunction()
