# SPDX-License-Identifier: Apache-2.0
# Every third-party library has one interface target here and one home among the folders.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

function(df_package target module)
  pkg_check_modules(${target} REQUIRED IMPORTED_TARGET ${module})
  add_library(df_${target} INTERFACE)
  target_link_libraries(df_${target} INTERFACE PkgConfig::${target})
endfunction()

df_package(zmq libzmq)
df_package(msgpack msgpack)
df_package(libarchive libarchive)
df_package(zstd libzstd)
df_package(isal libisal)
df_package(simdjson simdjson)
df_package(icu icu-uc)
df_package(xxhash libxxhash)
df_package(fyaml libfyaml)
df_package(nettle nettle)
df_package(sqlite3 sqlite3)
df_package(pcre2 libpcre2-8)

# libcurl: its header alone. worker/net loads the library when a pipeline calls out.
pkg_check_modules(curl REQUIRED libcurl)
add_library(df_curl INTERFACE)
target_include_directories(df_curl SYSTEM INTERFACE ${curl_INCLUDE_DIRS})
target_link_libraries(df_curl INTERFACE ${CMAKE_DL_LIBS})

# OpenBLAS: the serial build where it is installed (docflume's parallelism is its processes), else whatever the system has.
set(DF_BLAS_NAMES openblas)
if(DF_STATIC_BLAS)
  set(DF_BLAS_NAMES libopenblas.a openblas)
endif()
find_library(DF_OPENBLAS NAMES ${DF_BLAS_NAMES} NAMES_PER_DIR
  HINTS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial PATH_SUFFIXES openblas-serial)
find_path(DF_CBLAS_INCLUDE cblas.h HINTS /usr/include/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial
  /usr/include/${CMAKE_LIBRARY_ARCHITECTURE})
if(NOT DF_OPENBLAS OR NOT DF_CBLAS_INCLUDE)
  message(FATAL_ERROR "OpenBLAS is missing: install libopenblas-serial-dev")
endif()
add_library(df_openblas INTERFACE)
target_link_libraries(df_openblas INTERFACE ${DF_OPENBLAS} Threads::Threads m)
target_include_directories(df_openblas SYSTEM INTERFACE ${DF_CBLAS_INCLUDE})
if(DF_OPENBLAS MATCHES "\\.a$")
  # worker/math/gemm.c names these weakly, and a weak name takes nothing out of an archive: without them an unknown CPU
  # would stay with the kernels of a Pentium 4.
  target_link_options(df_openblas INTERFACE LINKER:-u,openblas_get_corename LINKER:-u,openblas_set_num_threads)
endif()
