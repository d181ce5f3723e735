# SPDX-License-Identifier: Apache-2.0
# df_folder(PATH LINKS ...): the static library df_PATH (slashes become underscores) of every source file directly in PATH.
# A folder without sources becomes a library of one empty file: the graph above is the whole house at any time, and
# folders that know each other (worker and worker/stages) may link each other, which only static libraries can.
file(WRITE ${CMAKE_BINARY_DIR}/empty.c.new "extern int df_no_sources_here;\n")
configure_file(${CMAKE_BINARY_DIR}/empty.c.new ${CMAKE_BINARY_DIR}/empty.c COPYONLY)

function(df_folder path)
  cmake_parse_arguments(arg "" "" "LINKS" ${ARGN})
  string(REPLACE "/" "_" name "df_${path}")
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${path}/*.c ${CMAKE_SOURCE_DIR}/${path}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/main\\.c$")
  if(NOT sources)
    set(sources ${CMAKE_BINARY_DIR}/empty.c)
  endif()
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC ${arg_LINKS})
endfunction()

function(df_program name main)
  if(EXISTS ${CMAKE_SOURCE_DIR}/${main})
    add_executable(${name} ${main})
    target_link_libraries(${name} PRIVATE df_cli)
    install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endfunction()
