# Writes FILE, a header with the version of the checkout SOURCE, where it is not so already:
# cmake -DSOURCE=DIR -DRELEASE=0.1.0 -DFILE=FILE -P version.cmake
set(version ${RELEASE})
find_package(Git QUIET)
if(GIT_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} rev-parse --short=12 HEAD WORKING_DIRECTORY ${SOURCE}
    OUTPUT_VARIABLE commit RESULT_VARIABLE failed ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT failed)
    string(APPEND version "+${commit}")
    execute_process(COMMAND ${GIT_EXECUTABLE} diff HEAD WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE changes ERROR_QUIET)
    if(changes)
      string(SHA256 hash "${changes}")
      string(SUBSTRING ${hash} 0 8 hash)
      string(APPEND version ".${hash}")
    endif()
  endif()
endif()
file(CONFIGURE OUTPUT ${FILE} CONTENT "#define GPT2TRAIN_VERSION \"${version}\"\n")
