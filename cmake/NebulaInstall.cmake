# SPDX-License-Identifier: Apache-2.0 OR MIT
# Headers, libraries, pkg-config file, CMake package, programs and manual pages. All of it may be moved afterwards.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/nebula-memory)

install(DIRECTORY include/nebula DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(TARGETS nebula-memory-shared nebula-memory-static EXPORT nebula-memory
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT nebula-memory NAMESPACE nebula:: FILE nebula-memory-targets.cmake DESTINATION ${package_dir})

configure_package_config_file(cmake/nebula-memory-config.cmake.in
  ${PROJECT_BINARY_DIR}/nebula-memory-config.cmake INSTALL_DESTINATION ${package_dir})
# Before 1.0 a new minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/nebula-memory-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/nebula-memory-config.cmake
  ${PROJECT_BINARY_DIR}/nebula-memory-config-version.cmake DESTINATION ${package_dir})

# The .pc file finds its prefix from where it lies, unless the folders were given as absolute paths.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(pc_prefix ${CMAKE_INSTALL_PREFIX})
  set(pc_libdir ${CMAKE_INSTALL_FULL_LIBDIR})
  set(pc_includedir ${CMAKE_INSTALL_FULL_INCLUDEDIR})
else()
  file(RELATIVE_PATH up /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
  string(REGEX REPLACE "/$" "" up "${up}")
  set(pc_prefix "\${pcfiledir}/${up}")
  set(pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
  set(pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(cmake/nebula-memory.pc.in ${PROJECT_BINARY_DIR}/nebula-memory.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/nebula-memory.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(DIRECTORY LICENSES DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/nebula-memory)

if(TARGET nebula-replay)
  install(TARGETS nebula-replay RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(FILES tools/replay/nebula-replay.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endif()
