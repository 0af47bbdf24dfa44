# SPDX-License-Identifier: Apache-2.0 OR MIT
# The target nebula-flags: language, warnings and instrumentation of everything that is ours. Never installed.
add_library(nebula-flags INTERFACE)
target_compile_features(nebula-flags INTERFACE c_std_17)
target_compile_options(nebula-flags INTERFACE
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
  $<$<BOOL:${NEBULA_WERROR}>:-Werror>
  $<$<CONFIG:Release>:-O2>) # after CMake's own -O3: the figures of the documents are those of -O2

if(NEBULA_SANITIZE STREQUAL "address")
  set(sanitize -fsanitize=address,undefined -fno-sanitize-recover=all)
elseif(NEBULA_SANITIZE STREQUAL "thread")
  set(sanitize -fsanitize=thread)
elseif(NOT NEBULA_SANITIZE STREQUAL "")
  message(FATAL_ERROR "NEBULA_SANITIZE=${NEBULA_SANITIZE}: must be empty, address or thread")
endif()
if(NEBULA_SANITIZE)
  target_compile_options(nebula-flags INTERFACE ${sanitize} -O1 -g -fno-omit-frame-pointer)
  target_link_options(nebula-flags INTERFACE ${sanitize})
endif()

if(NEBULA_COVERAGE)
  # Atomic counters: the tests have threads, and plain ones would lose counts and go backwards.
  target_compile_options(nebula-flags INTERFACE --coverage -O0 -g -fprofile-update=atomic)
  target_link_options(nebula-flags INTERFACE --coverage)
endif()
