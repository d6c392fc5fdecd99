# What `tokenize` reads Parquet with, where it is: Apache Arrow's C++ library, by its packages, or as
# the Python package pyarrow brings it (headers and libraries, without CMake's files).
set(GPT2TRAIN_PYARROW "" CACHE PATH "Directory of the Python package pyarrow, whose libparquet is to be used")
if(GPT2TRAIN_PYARROW)
  file(GLOB libparquet ${GPT2TRAIN_PYARROW}/libparquet.so.*)
  file(GLOB libarrow ${GPT2TRAIN_PYARROW}/libarrow.so.*)
  if(NOT libparquet OR NOT libarrow)
    message(FATAL_ERROR "GPT2TRAIN_PYARROW: no libparquet.so.* and libarrow.so.* in \"${GPT2TRAIN_PYARROW}\"")
  endif()
  add_library(Parquet::parquet_shared SHARED IMPORTED)
  set_target_properties(Parquet::parquet_shared PROPERTIES
    IMPORTED_LOCATION ${libparquet}
    INTERFACE_INCLUDE_DIRECTORIES ${GPT2TRAIN_PYARROW}/include
    INTERFACE_LINK_LIBRARIES ${libarrow})
else()
  find_package(Parquet QUIET CONFIG)
endif()
