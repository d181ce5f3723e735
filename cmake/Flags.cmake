# SPDX-License-Identifier: Apache-2.0
# Compiler and linker flags for every target. Included before any target is made.

# Assertions stay on in every build (a failed one costs one attempt at one lease), so there is no -DNDEBUG.
# No -march: the binary runs on any x86-64; OpenBLAS, simdjson and ISA-L choose their kernels at run time.
set(CMAKE_C_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g")
if(DF_ASAN OR DF_TSAN OR DF_FUZZ)
  set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O1 -g")
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g")
endif()

add_compile_options(-Wall -Wextra -Wpedantic
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes> $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
  -Wshadow -Wvla -fno-strict-aliasing -ffp-contract=fast -fstack-protector-strong)
if(DF_WERROR)
  add_compile_options(-Werror)
endif()
add_compile_definitions(_GNU_SOURCE DF_VERSION="${PROJECT_VERSION}")
include_directories(${CMAKE_SOURCE_DIR})

# A run starts five processes and more: libraries that nobody calls are not loaded, and functions are bound when first
# called (docs of the figures: cmake/README.md).
add_link_options(-Wl,--as-needed -Wl,-z,lazy -Wl,-z,relro -Wl,-O1)

if(DF_ASAN)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
  # gcc 12 aligns its fake stack for 32 bytes at most (its bug 110027): a 64-byte vector that is spilled there faults.
  if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    set_source_files_properties(${CMAKE_SOURCE_DIR}/worker/math/kernels_avx512.c PROPERTIES
      COMPILE_OPTIONS --param=asan-use-after-return=0)
  endif()
endif()
if(DF_TSAN)
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
endif()
# gcc's word for it, which sources ask for, and which clang (before 20) does not say.
if(CMAKE_C_COMPILER_ID STREQUAL "Clang" AND DF_ASAN)
  add_compile_options(-U__SANITIZE_ADDRESS__ -D__SANITIZE_ADDRESS__=1)
elseif(CMAKE_C_COMPILER_ID STREQUAL "Clang" AND DF_TSAN)
  add_compile_options(-U__SANITIZE_THREAD__ -D__SANITIZE_THREAD__=1)
endif()
if(DF_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "DF_FUZZ needs clang: cmake --preset fuzz")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()

if(DF_LTO)
  include(CheckIPOSupported)
  check_ipo_supported(RESULT DF_LTO_WORKS OUTPUT why LANGUAGES C CXX)
  if(DF_LTO_WORKS)
    set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
  else()
    message(STATUS "no link-time optimisation: ${why}")
  endif()
endif()

find_program(DF_CCACHE ccache)
if(DF_CCACHE AND NOT CMAKE_C_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${DF_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${DF_CCACHE})
endif()
