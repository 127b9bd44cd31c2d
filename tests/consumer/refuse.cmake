# Asks for VERSION of the installed package, which is another, and must be told so.
file(REMOVE_RECURSE ${BINARY})
execute_process(
  COMMAND ${CMAKE_COMMAND} -G ${GENERATOR} -S ${CMAKE_CURRENT_LIST_DIR}/installed -B ${BINARY}
    -D CMAKE_CXX_COMPILER=${COMPILER}
    -D CMAKE_PREFIX_PATH=${PREFIX}
    -D KEYROTATOR_VERSION=${VERSION}
  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(result EQUAL 0)
  message(FATAL_ERROR "find_package(keyrotator ${VERSION}) found ${INSTALLED_VERSION}.")
endif()
string(REGEX REPLACE "[ \n]+" " " output "${output}")  # CMake breaks the lines
foreach(expected IN ITEMS
    "compatible with requested version \"${VERSION}\""
    "keyrotatorConfig.cmake, version: ${INSTALLED_VERSION}")
  string(FIND "${output}" "${expected}" position)
  if(position EQUAL -1)
    message(FATAL_ERROR "Not said: ${expected}\nSaid: ${output}")
  endif()
endforeach()
