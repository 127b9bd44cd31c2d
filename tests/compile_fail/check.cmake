# Builds TARGET, whose only source is FILE. If FILE begins with
# "// error: <regular expression>", the build must fail, and the first error
# must match: what is said first is what a user reads. Otherwise it must pass.
file(STRINGS ${FILE} first_line LIMIT_COUNT 1)
if(CONFIG)  # none without a build type
  set(config --config ${CONFIG})
endif()
execute_process(
  COMMAND ${CMAKE_COMMAND} --build ${BUILD} ${config} --target ${TARGET}
  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)

if(NOT first_line MATCHES "^// error: (.+)$")
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${FILE} must compile, and does not:\n${output}")
  endif()
  return()
endif()
set(expected "${CMAKE_MATCH_1}")

if(result EQUAL 0)
  message(FATAL_ERROR "${FILE} must not compile, and does.")
endif()
if(NOT output MATCHES "[^\n]* error: [^\n]*")
  message(FATAL_ERROR "The build failed without an error of the compiler:\n${output}")
endif()
set(first_error "${CMAKE_MATCH_0}")
if(NOT first_error MATCHES "${expected}")
  message(FATAL_ERROR
    "The first error must match\n  ${expected}\nand is\n  ${first_error}\nin\n${output}")
endif()
