# `cmake --install` and `cpack`: the command, the libraries, the headers, and the files by which
# CMake's find_package and pkg-config find them. One Debian package a component.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/zipllm)

if(TARGET zipllm)
  install(TARGETS zipllm RUNTIME COMPONENT command)
  if(TARGET zipllm_mount)
    # What mount(8) and fstab call for the types fuse.zipllm and zipllm, and systemd's unit.
    install(PROGRAMS ${PROJECT_SOURCE_DIR}/src/mount/mount.fuse.zipllm
            DESTINATION ${CMAKE_INSTALL_SBINDIR} COMPONENT command)
    file(CREATE_LINK mount.fuse.zipllm ${PROJECT_BINARY_DIR}/mount.zipllm SYMBOLIC)
    install(FILES ${PROJECT_BINARY_DIR}/mount.zipllm DESTINATION ${CMAKE_INSTALL_SBINDIR}
            COMPONENT command)
    configure_file(src/mount/zipllm-mount@.service.in zipllm-mount@.service @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/zipllm-mount@.service DESTINATION lib/systemd/system
            COMPONENT command)
    set(CPACK_DEBIAN_COMMAND_PACKAGE_RECOMMENDS fuse3)
  endif()
endif()
if(TARGET zipllm_documents)  # the man page and shell completions that tools/ makes
  install(DIRECTORY ${PROJECT_BINARY_DIR}/share/ DESTINATION ${CMAKE_INSTALL_DATADIR}
          COMPONENT command)
endif()
install(TARGETS zipllm_lib_shared EXPORT zipllm-shared-targets
        LIBRARY COMPONENT library NAMELINK_COMPONENT development)
install(TARGETS zipllm_lib_static EXPORT zipllm-static-targets ARCHIVE COMPONENT development)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/zipllm DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        COMPONENT development FILES_MATCHING PATTERN "*.h" PATTERN "*.inc")
foreach(kind shared static)
  install(EXPORT zipllm-${kind}-targets NAMESPACE zipllm:: DESTINATION ${package_dir}
          COMPONENT development)
endforeach()

configure_package_config_file(cmake/zipllm-config.cmake.in zipllm-config.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(zipllm-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/zipllm-config.cmake
              ${PROJECT_BINARY_DIR}/zipllm-config-version.cmake
        DESTINATION ${package_dir} COMPONENT development)
file(RELATIVE_PATH ZIPLLM_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/zipllm.pc.in zipllm.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/zipllm.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT development)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "zipllm maintainers <maintainers@zipllm.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL command library development)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS ON)
set(CPACK_COMPONENT_DEVELOPMENT_DEPENDS library)
set(CPACK_DEBIAN_COMMAND_PACKAGE_NAME zipllm)
set(CPACK_DEBIAN_COMMAND_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libzipllm${PROJECT_VERSION_MAJOR})
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libzipllm-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
    "libabsl-dev, libssl-dev, libzstd-dev, liblzma-dev, libdivsufsort-dev, libsqlite3-dev, pkg-config")
include(CPack)
