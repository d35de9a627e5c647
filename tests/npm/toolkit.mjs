// Lets actions that the tests assemble use GitHub's toolkits, which are installed beside this file.
export const load = name => import(`@actions/${name}`)
