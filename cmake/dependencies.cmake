# Libraries come as Debian or Ubuntu packages; scripts/packages.sh installs them.
find_package(OpenMP REQUIRED)
find_package(fmt 8 REQUIRED)
find_package(nlohmann_json 3.10 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_package(yaml-cpp 0.6 REQUIRED)
find_package(dnnl REQUIRED)  # brings OpenCL in, which Debian's build of oneDNN links
if(dnnl_VERSION VERSION_LESS 2.2)  # its own check takes 3 for no successor of 2
  message(FATAL_ERROR "oneDNN ${dnnl_VERSION} is too old: 2.2 or later is needed")
endif()
find_package(PkgConfig REQUIRED)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash>=0.8)
find_package(ZLIB QUIET)  # what `tokenize` unpacks with, where it is
pkg_check_modules(zstd QUIET IMPORTED_TARGET libzstd)
include(parquet)
find_package(benchmark 1.6 QUIET)

# yaml-cpp names its target without a namespace before 0.8.
if(NOT TARGET yaml-cpp::yaml-cpp)
  add_library(yaml-cpp::yaml-cpp INTERFACE IMPORTED)
  target_link_libraries(yaml-cpp::yaml-cpp INTERFACE yaml-cpp)
endif()
