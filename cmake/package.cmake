# `cpack -G DEB`, best of the preset `package`: Debian packages of the program, of the library and, where it was built,
# of the CUDA backend. What only Debian wants is installed by components of its own.
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(release ${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})
# As for Debian's own tools, who publishes packages names themselves in the environment.
set(CPACK_PACKAGE_CONTACT "gpt2train contributors <gpt2train@example.org>")
if(DEFINED ENV{DEBFULLNAME} AND DEFINED ENV{DEBEMAIL})
  set(CPACK_PACKAGE_CONTACT "$ENV{DEBFULLNAME} <$ENV{DEBEMAIL}>")
endif()

# ---- copyright and changelog ----------------------------------------------------------------------
set(papers ${PROJECT_BINARY_DIR}/debian)
file(READ LICENSE licence)
string(REGEX REPLACE "^[^\n]*\n\n[^\n]*\n\n" "" licence "${licence}")  # title and holders
string(REGEX REPLACE "\n\n" "\n.\n" licence "${licence}")
string(REGEX REPLACE "\n([^\n])" "\n \\1" licence "${licence}")
file(CONFIGURE OUTPUT ${papers}/copyright @ONLY CONTENT
"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: gpt2train

Files: *
Copyright: 2026 gpt2train contributors
License: MIT

License: MIT
 @licence@")
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)  # SOURCE_DATE_EPOCH, where it is set
file(CONFIGURE OUTPUT ${papers}/changelog @ONLY CONTENT
"gpt2train (@release@) unstable; urgency=medium

  * Release @PROJECT_VERSION@; CHANGELOG.md says what is in it.

 -- @CPACK_PACKAGE_CONTACT@  @date@
")
find_program(GZIP gzip)
add_custom_command(OUTPUT ${papers}/changelog.Debian.gz DEPENDS ${papers}/changelog
  COMMAND ${GZIP} -9nc ${papers}/changelog > ${papers}/changelog.Debian.gz VERBATIM)
add_custom_target(gpt2train_debian ALL DEPENDS ${papers}/changelog.Debian.gz)

# ---- packages -------------------------------------------------------------------------------------
set(CPACK_GENERATOR DEB)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING ONE_PER_GROUP)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "GPT-2 trainer with memory budgeting")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME gpt2train)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PROGRAM_DESCRIPTION "Tells what fits before it runs, to the byte; where memory runs out it
goes on with a smaller micro-batch and the same mathematics. This build
needs a processor of the level ${GPT2TRAIN_MARCH}.")

set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libgpt2train-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION "The library, static, for programs that train or sample themselves, with
its CMake package and two examples.")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
  "libdnnl-dev, ocl-icd-opencl-dev, libfmt-dev, libyaml-cpp-dev, libxxhash-dev, zlib1g-dev, libzstd-dev, pkg-config")

# cuBLAS is NVIDIA's, from its packages or its installer, and only recommended.
set(CPACK_DEBIAN_CUDA_PACKAGE_NAME gpt2train-cuda)
set(CPACK_DEBIAN_CUDA_PACKAGE_DEPENDS "gpt2train (= ${release}), libc6, libstdc++6, libgcc-s1")
if(GPT2TRAIN_HAS_CUDA)
  string(REPLACE "." "-" cublas "libcublas-${CUDAToolkit_VERSION_MAJOR}.${CUDAToolkit_VERSION_MINOR}")
  set(CPACK_DEBIAN_CUDA_PACKAGE_RECOMMENDS "${cublas} | libcublas${CUDAToolkit_VERSION_MAJOR}")
endif()
set(CPACK_DEBIAN_CUDA_DESCRIPTION "The backend for NVIDIA GPUs, Ampere and later. Needs a driver, and cuBLAS of CUDA
${CUDAToolkit_VERSION_MAJOR}.")

# Looked at when cpack begins: a package that was compiled for one machine is for no other.
set(CPACK_GPT2TRAIN_MARCH "${GPT2TRAIN_MARCH}")
set(CPACK_PROJECT_CONFIG_FILE ${PROJECT_SOURCE_DIR}/cmake/check_package.cmake)

set(groups program development)
if(TARGET gpt2train_cuda)
  list(APPEND groups cuda)
endif()
set(CPACK_COMPONENTS_ALL)
foreach(group IN LISTS groups)
  string(TOUPPER ${group} upper)
  install(FILES ${papers}/copyright ${papers}/changelog.Debian.gz COMPONENT debian_${group} EXCLUDE_FROM_ALL
    DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${CPACK_DEBIAN_${upper}_PACKAGE_NAME})
  list(APPEND CPACK_COMPONENTS_ALL ${group} debian_${group})
endforeach()
include(CPack)
foreach(group IN LISTS groups)
  cpack_add_component(${group} GROUP ${group})
  cpack_add_component(debian_${group} GROUP ${group})
endforeach()
