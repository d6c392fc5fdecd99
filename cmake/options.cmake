# Everything a target needs to compile the way this project compiles.
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)

add_library(gpt2train_options INTERFACE)
target_include_directories(gpt2train_options INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR})
target_compile_options(gpt2train_options INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(gpt2train_options INTERFACE -Wno-restrict)  # false alarms in <string> (GCC bug 105651)
endif()
if(GPT2TRAIN_WERROR)
  target_compile_options(gpt2train_options INTERFACE -Werror)
endif()
if(GPT2TRAIN_SANITIZE)
  target_compile_options(gpt2train_options INTERFACE
    -fsanitize=${GPT2TRAIN_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_link_options(gpt2train_options INTERFACE -fsanitize=${GPT2TRAIN_SANITIZE})
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
