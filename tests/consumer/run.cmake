# Configures PROJECT from nothing, builds it and runs its programs.
file(REMOVE_RECURSE ${BINARY})
execute_process(
  COMMAND ${CMAKE_COMMAND} -G ${GENERATOR} -S ${CMAKE_CURRENT_LIST_DIR}/${PROJECT} -B ${BINARY}
    -D CMAKE_CXX_COMPILER=${COMPILER}
    -D CMAKE_BUILD_TYPE=Debug
    -D CMAKE_PREFIX_PATH=${PREFIX}
    -D KEYROTATOR_SOURCE=${SOURCE}
    -D KEYROTATOR_VERSION=${VERSION}
    -D "COMPONENTS=${COMPONENTS}"
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${BINARY} COMMAND_ERROR_IS_FATAL ANY)

foreach(component IN LISTS COMPONENTS)
  execute_process(COMMAND ${BINARY}/${component}
    OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)
  if(NOT output STREQUAL "${component}: ok\n")
    message(FATAL_ERROR "${component} printed: ${output}")
  endif()
endforeach()
