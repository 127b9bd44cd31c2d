# Installs the tree at BUILD into PREFIX, from nothing, and looks for every header.
file(REMOVE_RECURSE ${PREFIX})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${PREFIX}
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)

file(GLOB_RECURSE headers RELATIVE ${SOURCE}/include ${SOURCE}/include/*.h)
file(GLOB_RECURSE installed RELATIVE ${PREFIX}/include ${PREFIX}/include/*)
if(NOT headers)
  message(FATAL_ERROR "No headers in ${SOURCE}/include.")
endif()
if(NOT headers STREQUAL installed)
  set(missing ${headers})
  list(REMOVE_ITEM missing ${installed})
  set(extra ${installed})
  list(REMOVE_ITEM extra ${headers})
  message(FATAL_ERROR
    "In include/, not installed (add them to a FILE_SET of CMakeLists.txt): ${missing}\n"
    "Installed, not in include/: ${extra}")
endif()
