# One program per component, linked to the target that its users link to.
foreach(component IN LISTS COMPONENTS)
  set(target keyrotator::${component})
  if(component STREQUAL "core")
    set(target keyrotator::keyrotator)
  endif()

  # Neither flags nor definitions come with it.
  foreach(property IN ITEMS COMPILE_OPTIONS COMPILE_DEFINITIONS LINK_OPTIONS)
    get_target_property(value ${target} INTERFACE_${property})
    if(value)
      message(FATAL_ERROR "${target} brings ${property} ${value}")
    endif()
  endforeach()

  add_executable(${component} ../${component}.cc)
  target_link_libraries(${component} PRIVATE ${target})
endforeach()
